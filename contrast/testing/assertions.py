"""Assertions that the checks of all kinds of pieces share."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["check_gradient", "distance", "equal", "prepared", "require", "same", "unit_rows"]

M = TypeVar("M", bound=nn.Module)


def prepared(module: M, run: Callable[[M], Tensor], double: bool = True) -> M:
    """A copy of a piece, after the checks of its state: it pickles, keeps no state, and its tensors are buffers."""
    name = type(module).__name__
    module = copy.deepcopy(module)
    module = module.double() if double else module
    loose = [key for each in module.modules() for key, value in vars(each).items() if isinstance(value, Tensor)]
    require(
        not loose,
        f"{name}.{loose[0] if loose else ''} is a plain tensor, which is in no checkpoint: use register_buffer",
    )
    try:
        stored = pickle.dumps(module)
    except Exception as error:
        raise AssertionError(
            f"{name} cannot be pickled ({error}): define its class at the top of a module, and keep no lambda on self"
        ) from error
    with torch.no_grad():
        first = run(module)  # a table that is made at the first call is not state
        before = pickle.dumps(module)
        second = run(module)
        require(
            torch.equal(first, second) and pickle.dumps(module) == before,
            f"{name} keeps state from a forward (results differ by {distance(second, first):.2g}): take random numbers "
            "from contrast.randomness, and change state in begin_step only",
        )
        twin = pickle.loads(stored)
        for each in twin.parameters():
            each.add_(1.0)
        try:
            twin.load_state_dict(module.state_dict())
        except RuntimeError as error:
            raise AssertionError(f"{name} cannot load its own state_dict: {' '.join(str(error).split())}") from error
        same(
            run(twin),
            first,
            f"{name} differs by {{:.2g}} after its state_dict is loaded: keep all state in buffers and parameters",
        )
    return module


def require(holds: bool, sentence: str) -> None:
    """Raise an AssertionError with this sentence unless the property holds."""
    if not holds:
        raise AssertionError(sentence)


def same(found: Tensor, expected: Tensor, sentence: str, tolerance: float = 1e-9) -> None:
    """Raise an AssertionError unless two tensors are equal; the sentence is formatted with their `distance`."""
    far = distance(found, expected)
    require(far <= tolerance, sentence.format(far))


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest relative difference of two tensors; infinite for other shapes, and for a NaN on one side."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.detach(), expected.detach()
    far = torch.where(found == expected, 0.0, (found - expected).abs() / (1 + expected.abs()))
    return float(far.nan_to_num(nan=torch.inf).max()) if far.numel() else 0.0


def equal(one: Any, other: Any) -> bool:
    """Whether two tensors, or mappings of tensors, are equal bit by bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


def check_gradient(name: str, function: Callable[[], Tensor], inputs: Mapping[str, Tensor]) -> None:
    """Compare gradients with central differences in float64, along one random direction for each input.

    Args:
        name: name of the piece, for the message.
        function: a scalar in float64 of the inputs.
        inputs: tensors with gradient, by name; each is moved in place and restored.
    """
    gradients = torch.autograd.grad(function(), list(inputs.values()), allow_unused=True)
    for (key, value), gradient in zip(inputs.items(), gradients, strict=True):
        direction = torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(8))
        ends = []
        with torch.no_grad():
            for step in (1e-6, -1e-6):
                value.add_(direction, alpha=step)
                ends.append(function().item())
                value.sub_(direction, alpha=step)
        expected = (ends[0] - ends[1]) / 2e-6
        found = 0.0 if gradient is None else (gradient * direction).sum().item()
        require(
            abs(found - expected) <= 1e-5 * (1 + abs(expected)),
            f"{name} has a gradient by {key} of {found:.6g} where finite differences give {expected:.6g}: a usual "
            "cause is detach(), item(), or a sum over negatives.tiles(), which carry no gradient",
        )


def unit_rows(seed: int, *shape: int) -> Tensor:
    """Random rows of unit length in float64, a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)
