"""Check the tensors that public functions are given: rank, dtype and lengths, by the function's own annotations."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from jaxtyping import AbstractArray, jaxtyped
from torch import Tensor

from contrast.errors import InputError

__all__ = ["check_tensors", "checked", "tensor_hints"]

P = ParamSpec("P")
R = TypeVar("R")

_KINDS = {"Float": "floating-point numbers", "Int": "integers", "Bool": "true and false"}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function that refuses tensors which its jaxtyping annotations do not describe, before it computes anything.

    Without it, labels of shape (n, 1) where (n,) is meant broadcast to another number. Only shapes and types are
    looked at: a device is never waited for.

    Raises:
        InputError: of one line that names the argument, its shape and type, and those that are asked for.

    Example:
        >>> import torch
        >>> from contrast import in_batch_pairs
        >>> in_batch_pairs(torch.eye(2), torch.eye(2), torch.zeros(2, 1, dtype=torch.int64))
        Traceback (most recent call last):
        contrast.errors.InputError: in_batch_pairs: index is int64 of shape (2, 1), and must be integers of shape (n), \
beside z1 (2, 2) and z2 (2, 2)
    """
    signature = inspect.signature(function)
    owner = function.__qualname__.removesuffix(".__init__")

    @functools.cache
    def hints() -> dict[str, tuple[Any, ...]]:  # late: annotations may name what is defined below
        return tensor_hints(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # Python's own words are for missing and surplus arguments
            return function(*args, **kwargs)
        check_tensors(owner, {name: (given[name], hint) for name, hint in hints().items() if name in given})
        return function(*args, **kwargs)

    return call


def tensor_hints(owner: Any) -> dict[str, tuple[Any, ...]]:
    """The jaxtyping alternatives, and None, of each annotation of a function or class that has any."""
    found = {}
    for name, hint in typing.get_type_hints(owner).items():
        alternatives = typing.get_args(hint) if not _is_array(hint) else (hint,)
        if name != "return" and any(map(_is_array, alternatives)):
            found[name] = tuple(each for each in alternatives if _is_array(each) or each is type(None))
    return found


def check_tensors(owner: str, given: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
    """Check several tensors together: an axis of one name has one length in all of them.

    Args:
        owner: for messages.
        given: values by their names, each with the alternatives that it may be.

    Raises:
        InputError: for the first that is none of its alternatives.
    """
    with jaxtyped("context"):
        for name, (value, alternatives) in given.items():
            if value is None and type(None) in alternatives:
                continue
            if not any(_is_array(each) and isinstance(value, each) for each in alternatives):
                raise InputError(_refusal(owner, name, value, alternatives, given))


def _is_array(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def _refusal(owner: str, name: str, value: Any, alternatives: tuple[Any, ...], given: Mapping[str, Any]) -> str:
    arrays = [each for each in alternatives if _is_array(each)]
    wanted = " or ".join(
        f"{_KINDS.get(each.__name__.partition('[')[0], 'numbers')} of shape ({', '.join(each.dim_str.split())})"
        for each in arrays
    )
    if not isinstance(value, Tensor):
        return f"{owner}: {name} is of type {type(value).__name__}, and must be a tensor of {wanted}"
    others = [f"{other} {tuple(each.shape)}" for other, (each, _) in given.items() if isinstance(each, Tensor)]
    others = [each for each in others if not each.startswith(f"{name} ")]
    beside = f", beside {' and '.join(others)}" if others else ""
    found = f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return f"{owner}: {name} is {found}, and must be {wanted}{beside}"
