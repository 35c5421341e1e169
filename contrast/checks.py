"""Argument validation: number ranges, Python types, and tensor shapes by jaxtyping annotations."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import torch.nn
from jaxtyping import AbstractArray, jaxtyped
from torch import Tensor

from contrast.errors import InputError, did_you_mean

__all__ = [
    "check_at_least",
    "check_between",
    "check_interval",
    "check_tensors",
    "checked",
    "checked_fields",
    "require_positive",
    "tensor_hints",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_KINDS = {
    "UInt8": "whole numbers from 0 to 255 (uint8)",
    "Float": "floating-point numbers",
    "Int": "integers",
    "Bool": "true and false",
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that validates arguments against the annotations before the function or `__init__` runs.

    Without it, labels of shape (n, 1) in place of (n,) would broadcast to a wrong result. For tensors, only shapes and
    dtypes are checked, so there is no synchronisation with a device. Also checked are numbers, strings, paths, words of
    a `Literal`, callables, modules and classes of this package, and sequences and tuples of these. Any other annotation
    accepts every value.

    Raises:
        InputError: a message of one line that names the argument, its shape and dtype, and the expected ones.

    Example:
        >>> import torch
        >>> from contrast import in_batch_pairs
        >>> in_batch_pairs(torch.eye(2), torch.eye(2), torch.zeros(2, 1, dtype=torch.int64))
        Traceback (most recent call last):
        contrast.errors.InputError: in_batch_pairs: index is int64 of shape (2, 1), and must be integers of shape (n), \
beside z1 (2, 2) and z2 (2, 2)
    """
    signature = inspect.signature(function)
    of_class = function.__qualname__.endswith(".__init__")  # the owner is then the subclass
    several = {each.name for each in signature.parameters.values() if each.kind is each.VAR_POSITIONAL}

    @functools.cache
    def hints() -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:  # late: annotations may name later classes
        tensors = tensor_hints(function)
        others = {name: hint for name, hint in typing.get_type_hints(function).items() if name != "return"}
        return tensors, {name: hint for name, hint in others.items() if name not in tensors}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # missing or surplus arguments: let Python raise its own error
            return function(*args, **kwargs)
        tensors, others = hints()
        owner = type(args[0]).__name__ if of_class else function.__qualname__
        check_tensors(owner, {name: (given[name], hint) for name, hint in tensors.items() if name in given})
        for name, hint in others.items():
            if name not in given:
                continue
            for value in given[name] if name in several else (given[name],):
                if not _fits(value, hint):
                    raise InputError(_unfit(owner, name, value, hint))
        return function(*args, **kwargs)

    vars(call)["checks_arguments"] = True
    return call


def checked_fields(of: type[T]) -> type[T]:
    """Class decorator for a dataclass: validates its fields against their annotations, as `checked` does.

    Raises:
        InputError: when an instance is made, a message of one line that names the field and what it must be.
    """
    of.__init__ = checked(of.__init__)  # type: ignore[method-assign]  # a dataclass makes its own constructor
    return of


def tensor_hints(owner: Any) -> dict[str, tuple[Any, ...]]:
    """The allowed tensor annotations, and None, of each argument or field of a function or class.

    Arguments without a tensor annotation are omitted, and so are sequences of tensors.
    """
    found = {}
    for name, hint in typing.get_type_hints(owner).items():
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        alternatives = typing.get_args(hint) if union else (hint,)
        several = any(typing.get_origin(each) is collections.abc.Sequence for each in alternatives)
        if name != "return" and not several and any(map(_is_array, alternatives)):
            found[name] = tuple(each for each in alternatives if _is_array(each) or each is type(None))
    return found


def check_tensors(owner: str, given: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
    """Check the shapes of several tensors together: an axis name has the same length in all of them.

    Args:
        owner: name of the function or class, for error messages.
        given: the values by their names, each with its allowed annotations.

    Raises:
        InputError: for the first value that fits none of its annotations.
    """
    with jaxtyped("context"):
        for name, (value, alternatives) in given.items():
            if value is None and type(None) in alternatives:
                continue
            if not any(_is_array(each) and isinstance(value, each) for each in alternatives):
                raise InputError(_refusal(owner, name, value, alternatives, given))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value fits an annotation; True for an annotation that is not understood."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):  # numpy numbers are accepted; True and False are not
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if hint is Tensor:
        return isinstance(value, Tensor)
    if hint is str:
        return isinstance(value, str)
    if hint is Path:
        return isinstance(value, os.PathLike)
    if origin is tuple:
        return _fits_tuple(value, inner)
    if origin in (collections.abc.Sequence, list):
        return _is_sequence(value) and all(_fits(each, inner[0]) for each in value)
    if origin is collections.abc.Callable or hint is collections.abc.Callable:
        return callable(value)
    if origin is collections.abc.Mapping:
        return isinstance(value, Mapping)
    return isinstance(value, hint) if _is_ours(hint) else True


def _fits_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not _is_sequence(value):
        return False
    if inner[-1:] == (...,):
        return all(_fits(each, inner[0]) for each in value)
    return len(value) == len(inner) and all(map(_fits, value, inner))


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__iter__") and not isinstance(value, str | Mapping | type)


def _is_ours(hint: Any) -> bool:
    """Whether an annotation is a class of this package or `torch.nn.Module`, so that only its instances are valid."""
    if not isinstance(hint, type) or _is_array(hint) or getattr(hint, "_is_protocol", False):
        return False
    return hint.__module__.startswith("contrast.") or hint is torch.nn.Module


def _unfit(owner: str, name: str, value: Any, hint: Any) -> str:
    words = [
        word for each in _alternatives(hint) if typing.get_origin(each) is Literal for word in typing.get_args(each)
    ]
    if words and isinstance(value, str):
        return f"{owner}: {name} is {value!r}{did_you_mean(value, map(str, words))}"
    if isinstance(value, type) and any(_is_ours(each) and issubclass(value, each) for each in _alternatives(hint)):
        return f"{owner}: {name} is the class {value.__name__}, and must be an object: give {value.__name__}(...)"
    return f"{owner}: {name} is {_shown(value)}, and must be {' or '.join(map(_describe_type, _alternatives(hint)))}"


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, without int if float is a member too."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return (hint,)
    parts = typing.get_args(hint)
    return tuple(each for each in parts if each is not int or float not in parts)


def _describe_type(hint: Any) -> str:
    simple = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a string",
        Path: "a path",
        Tensor: "a tensor",
    }
    if hint in simple:
        return simple[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return "None"
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple and inner[-1:] != (...,):
        return f"({', '.join(map(_describe_type, inner))})"
    if origin in (collections.abc.Sequence, list, tuple):
        return f"a sequence, each {_describe_type(inner[0])}"
    if origin is collections.abc.Callable:
        return "a function or class"
    if origin is collections.abc.Mapping:
        return "a mapping"
    return f"of type {getattr(hint, '__name__', hint)}"


def _shown(value: Any) -> str:
    """A value for a message: its repr if that is short, otherwise its type."""
    text = repr(value)
    plain = isinstance(value, str | bool | int | float | tuple | list | None)
    return text if plain and len(text) <= 80 and "\n" not in text else f"of type {type(value).__name__}"


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


def require_positive(owner: str, name: str, value: int) -> int:
    """Return `value` if it is at least 1.

    Raises:
        InputError: if `value` is below 1.
    """
    if value < 1:
        raise InputError(f"{owner}'s {name} {value} is not a whole number of at least 1")
    return value


def check_at_least(name: str, value: float, low: float) -> None:
    """Raise an `InputError` unless `value` is finite and at least `low`."""
    if not low <= value < math.inf:
        raise InputError(f"{name} is {value}: give a number of at least {low:g}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raise an `InputError` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}: give a number from {low:g} to {high:g}")


def check_interval(name: str, value: tuple[float, float], high: float = math.inf) -> None:
    """Raise an `InputError` unless `value` is two finite numbers with ``0 < first <= second <= high``."""
    if len(value) != 2 or not 0 < value[0] <= value[1] <= high or math.isinf(value[1]):
        limit = "" if math.isinf(high) else f", neither above {high:g}"
        raise InputError(f"{name} is {tuple(value)}: give two positive numbers, the smaller first{limit}")
