"""Public classes and functions refuse what their annotations do not describe, in one line, before anything else."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch

import contrast.checks
from contrast import in_batch_pairs, losses
from contrast.errors import InputError
from contrast.evaluation import train_probe
from contrast.losses import HCL, BarlowTwins, ContrastiveLoss, Debiased, InfoNCE, Piece, VICReg
from contrast.models import load_weights

PACKAGES = ("losses", "banks", "models", "data", "evaluation", "testing")
RECORDS = {"Batch", "LabelledBatch", "Tile", "Neighbours"}  # tuples and what a package itself makes
IN_EVERY_STEP = {
    "negative_logits",
    "positive_logits",
    "weighted_mean",
}  # called by losses, which have checked what they were given


class Elsewhere:
    """A class of nobody's."""


def public() -> Iterator[tuple[str, Any]]:
    for package in PACKAGES:
        module = importlib.import_module(f"contrast.{package}")
        for name in module.__all__:
            function = getattr(module, name)
            if isinstance(function, type):
                function = vars(function).get("__init__")
            if inspect.isfunction(function) and name not in RECORDS:
                yield f"{package}.{name}", function


def alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def is_checked(function: Any) -> bool:
    return getattr(function, "checks_arguments", False) is True


def wrong(hint: Any) -> dict[str, Any]:
    """Values that an annotation does not allow, by what they are; empty for one that is not looked at."""
    parts = alternatives(hint)
    if any(typing.get_origin(each) is Literal for each in parts):
        return {"a wrong word": "wrong word", "a number": 3, "a class": Elsewhere}
    if any(each in (int, float) for each in parts) and not any(each is str for each in parts):
        found = {"a text": "0.1", "a class": Elsewhere}
        found |= {} if bool in parts else {"true": True}
        return found | ({} if type(None) in parts else {"None": None})
    ours = [each for each in parts if isinstance(each, type) and each.__module__.startswith("contrast.")]
    ours = [each for each in ours if not getattr(each, "_is_protocol", False)]
    plain = {type(None), int, float}
    if ours and all(each in ours or each in plain for each in parts):
        return {"the class itself": ours[0], "a text": ours[0].__name__, "another object": Elsewhere()}
    return {"a text": "true", "a number": 1} if parts == (bool,) else {}


def cases() -> Iterator[Any]:
    for name, function in public():
        if not is_checked(function):
            continue
        for argument, hint in typing.get_type_hints(inspect.unwrap(function)).items():
            if argument != "return":
                for kind, value in wrong(hint).items():
                    yield pytest.param(function, argument, value, id=f"{name}-{argument}-{kind}")


CASES = list(cases())


@pytest.mark.parametrize(("function", "argument", "value"), CASES)
def test_what_an_annotation_does_not_allow_is_refused(function: Any, argument: str, value: Any) -> None:
    """By the annotations alone: no other argument is needed."""
    hint = typing.get_type_hints(inspect.unwrap(function))[argument]
    assert not contrast.checks._fits(value, hint)
    message = contrast.checks._unfit("owner", argument, value, hint)
    assert "\n" not in message
    assert argument in message


def test_there_are_many_of_each_kind() -> None:
    names = [case.id for case in CASES]
    assert len(names) > 300
    for kind in ("a wrong word", "the class itself", "true", "None"):
        assert sum(name.endswith(kind) for name in names) > 10, kind


def test_every_public_name_with_such_an_argument_is_checked() -> None:
    unchecked = []
    for package in PACKAGES:
        module = importlib.import_module(f"contrast.{package}")
        for name in module.__all__:
            function = getattr(module, name)
            if isinstance(function, type):
                if not issubclass(function, torch.nn.Module | torch.utils.data.Dataset) or inspect.isabstract(function):
                    continue
                function = function.__init__
            if (
                name not in RECORDS | IN_EVERY_STEP
                and inspect.isfunction(function)
                and function.__module__.startswith("contrast.")
                and not is_checked(function)
            ):
                hints = typing.get_type_hints(inspect.unwrap(function))
                unchecked += [name for argument, hint in hints.items() if argument != "return" and wrong(hint)][:1]
    assert unchecked == []


@pytest.mark.parametrize(
    "piece",
    [each for name in losses.__all__ if isinstance(each := getattr(losses, name), type)],
    ids=lambda each: each.__name__,
)
def test_every_piece_refuses_wrong_numbers_and_objects_when_it_is_made(piece: Any) -> None:
    if not issubclass(piece, Piece) or inspect.isabstract(piece) or piece.__init__ is torch.nn.Module.__init__:
        return
    for argument, hint in typing.get_type_hints(inspect.unwrap(piece.__init__)).items():
        for value in wrong(hint).values() if argument != "return" else ():
            with pytest.raises((InputError, TypeError)) as raised:  # TypeError: Python's, of another that is missing
                piece(**{argument: value})
            assert "\n" not in str(raised.value)
            if not isinstance(raised.value, InputError):
                assert "missing" in str(raised.value)


ROWS = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
ONE = in_batch_pairs(ROWS[:1], ROWS[:1], torch.arange(1))


def loss() -> ContrastiveLoss:
    return ContrastiveLoss(InfoNCE())


FOUND = {
    "a tuple of rows": (lambda: loss()((ROWS, ROWS)), "pairs is of type tuple"),
    "rows": (lambda: loss()(ROWS, ROWS), "pairs is of type Tensor"),
    "nothing": (lambda: loss()(), "without pairs"),
    "InfoNCE of one": (lambda: loss()(ONE), "give 2 samples or more"),
    "HCL of one": (lambda: ContrastiveLoss(HCL())(ONE), "give 2 samples or more"),
    "Debiased of one": (lambda: ContrastiveLoss(Debiased())(ONE), "give 2 samples or more"),
    "VICReg of one": (lambda: VICReg()(ONE), "give at least 2"),
    "Barlow Twins of one": (lambda: BarlowTwins()(ONE), "give at least 2"),
    "a negative index": (lambda: in_batch_pairs(ROWS, ROWS, torch.tensor([0, 1, -1, 2])), "index has -1"),
    "no classes": (lambda: train_probe(ROWS, torch.zeros(4, dtype=torch.int64), 0, 0), "classes 0 is below 1"),
    "a module": (lambda: load_weights(torch.nn.Linear(2, 2), "a.pth"), "backbone is of type Linear"),  # type: ignore
    "float images": (lambda: views()(255 * torch.rand(2, 3, 8, 8), torch.arange(2), 0, 0), "images is float32"),
    "three indices": (
        lambda: views()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(3), 0, 0),
        "index is int64 of shape (3,)",
    ),
    "an array for a path": (lambda: array_images(np.zeros((2, 8, 8))), "path is of type ndarray"),
}


def views() -> Any:
    from contrast.data import SimCLRViews

    return SimCLRViews(8)


def array_images(path: Any) -> Any:
    from contrast.data import ArrayImages

    return ArrayImages(path)


@pytest.mark.parametrize("kind", FOUND)
def test_what_a_tester_found_is_one_line(kind: str) -> None:
    call, words = FOUND[kind]
    with pytest.raises(InputError) as raised:
        call()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(1), 1, 0.5])
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    assert contrast.checks._fits(number, float)
    assert contrast.checks._fits(number, int) == (int(number) == number)


@pytest.mark.parametrize("hint", [Sequence[str], list[str], tuple[str, ...], Sequence[float]])
def test_a_text_a_mapping_and_a_class_are_no_sequences(hint: Any) -> None:
    for value in ("ab", {"a": 1}, list, 3):
        assert not contrast.checks._fits(value, hint)
    assert contrast.checks._fits(["a"] if hint != Sequence[float] else (0.5, 1), hint)
