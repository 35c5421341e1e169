"""Observers that the configuration lists: a fresh copy for each step, guarded calls, and checks of their rows."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from contrast.distributed import everyone, world_size
from contrast.errors import InputError
from contrast.losses import Loss, LossOutput
from contrast.observation.blocks import Block
from contrast.observation.observer import Observer, recorded_name
from contrast.pairs import Pairs

__all__ = ["RESERVED", "ListedObserver", "checked_observers", "plain_row", "plain_scalars"]

RESERVED = (
    *("step", "epoch", "seconds", "resumed", "format", "edges", "shares", "rank_ends", "coupling_edges"),
    *("positive", "negative", "hardest", "own", "mined", "pair_mix", "query_mix", "synthetic", "same_class"),
    *("separation", "hardness", "false_negatives", "gradient", "coupling", "placeholders", "temperature"),
    *("embedding", "features", "train", "online", "scores", "proxy", "bad_pairs", "bank", "pairs"),
)
"""Names that the run's own records use, as keys of ``scores.jsonl`` or as prefixes in ``metrics.jsonl``."""
_DEEPEST, _MOST = 10, 20_000  # levels of nesting; numbers in a row


class ListedObserver(Observer):
    """Guard around a fresh copy of a listed observer, for one step.

    A failure is kept, not raised, so that the step can be completed and saved first. After a failure the observer is
    not called again.

    Args:
        observer: the observer as the configuration built it; it is copied.

    Attributes:
        name: key of its row.
        failure: one line that names the observer's class, what went wrong and the fix; empty if nothing did. After
            `row` it is the same on every process.
    """

    def __init__(self, observer: Observer) -> None:
        self.name, self.failure = recorded_name(observer), ""
        self._observer = observer
        try:
            self._observer = copy.deepcopy(observer)
        except Exception as error:  # any exception: another person's code raised it
            self.failure = _raised(observer, "__deepcopy__", error)

    def add_negatives(self, pairs: Pairs, block: Block) -> None:
        self._guarded("add_negatives", lambda: self._observer.add_negatives(pairs, block))

    def add(self, loss: Loss, output: LossOutput) -> None:
        self._guarded("add", lambda: self._observer.add(loss, output))

    def row(self) -> dict[str, Any]:
        """The observer's row, checked: plain, and the same on every process; empty after a failure.

        This is a collective call: every process must make it.

        Raises:
            InputError: with several processes, if the observer's own `row` raises: the other processes may be waiting
                within that call, so this process ends at once.
        """
        return self._checked("row", self._observer.row, plain_row)

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        """The observer's scalars, checked like its row, each with the observer's name before it.

        This is a collective call: every process must make it.

        Raises:
            InputError: as in `row`.
        """
        return self._checked("scalars", lambda: self._observer.scalars(row), plain_scalars)

    def _guarded(self, method: str, call: Callable[[], Any]) -> Any:
        if self.failure:
            return None
        try:
            return call()
        except Exception as error:  # any exception: another person's code raised it
            self.failure = _raised(self._observer, method, error)
            return None

    def _checked(
        self, method: str, call: Callable[[], Any], check: Callable[[Observer, Any], dict[str, Any]]
    ) -> dict[str, Any]:
        if self._failed_anywhere():
            return {}
        found = self._guarded(method, call)
        if self.failure and world_size() > 1:
            raise InputError(self.failure)
        checked: dict[str, Any] = {}
        try:
            checked = {} if self.failure else check(self._observer, found)
        except InputError as error:
            self.failure = str(error)
        if self._failed_anywhere():
            return {}
        texts = everyone(json.dumps(checked))
        self.failure = next(filter(None, (self._unlike(method, texts[0], text) for text in texts[1:])), "")
        return {} if self.failure else checked

    def _failed_anywhere(self) -> bool:
        self.failure = next(filter(None, everyone(self.failure)), "")
        return bool(self.failure)

    def _unlike(self, method: str, first: str, other: str) -> str:
        difference = None if first == other else _difference(json.loads(first), json.loads(other))
        if difference is None:
            return ""
        path, *values = difference
        return (
            f"{_class(self._observer)}.{method}(): {path} differs between processes ({values[0]!r:.40} and "
            f"{values[1]!r:.40}): sum over all processes, for example with contrast.observation.Average"
        )


def checked_observers(observers: Sequence[Observer]) -> tuple[Observer, ...]:
    """Check the names of listed observers before a run starts.

    Args:
        observers: the observers in the order of the configuration.

    Raises:
        InputError: if a name is not a Python identifier, is reserved for the run's own records, or occurs twice.
    """
    known: dict[str, Observer] = {}
    for observer in observers:
        name, owner = recorded_name(observer), _class(observer)
        if not name.isidentifier():
            raise InputError(f"scores.observers: {owner} has the name {name!r:.60}: give letters, digits and _ only")
        if name in RESERVED:
            raise InputError(
                f"scores.observers: {owner} has the name {name!r}, which the run's own records use: set another `name` "
                "on the class"
            )
        if name in known:
            raise InputError(
                f"scores.observers: {_class(known[name])} and {owner} both have the name {name!r}: list one of them, "
                "or set another `name` on one"
            )
        known[name] = observer
    return tuple(observers)


def plain_row(observer: Observer, row: Any) -> dict[str, Any]:
    """Check that a row is plain data, and copy it.

    Args:
        observer: the observer, for messages.
        row: result of its `row`.

    Returns:
        The row: nested mappings with texts as keys, finite numbers, and lists of finite numbers.

    Raises:
        InputError: one line that names the observer's class, the place in the row and the fix.
    """
    where = f"{_class(observer)}.row()"
    if not isinstance(row, Mapping):
        raise InputError(f"{where} returned {_kind(row)}: return a dict")
    checked: dict[str, Any] = _plain(where, "", row, 0)
    count = _count(checked)
    if count > _MOST:
        raise InputError(f"{where} has {count:,} numbers: return at most {_MOST:,}, for example a histogram")
    return checked


def plain_scalars(observer: Observer, scalars: Any) -> dict[str, float]:
    """Check an observer's scalars, and put its name before each of them.

    Args:
        observer: the observer.
        scalars: result of its `scalars`.

    Raises:
        InputError: one line, if it is not a mapping of names to finite numbers.
    """
    where = f"{_class(observer)}.scalars()"
    if not isinstance(scalars, Mapping):
        raise InputError(f"{where} returned {_kind(scalars)}: return a dict of numbers")
    named = {}
    for key, value in scalars.items():
        if not isinstance(key, str) or not key or not key.isprintable():
            raise InputError(f"{where} has the key {key!r:.60}: give a text")
        named[f"{recorded_name(observer)}/{key}"] = _number(where, key, value)
    return named


def _plain(where: str, path: str, value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise InputError(f"{where}: {path:.60} is nested more than {_DEEPEST} levels deep: return a flatter dict")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not key or "/" in key or not key.isprintable():
                raise InputError(f"{where}: {path or 'the row'} has the key {key!r:.60}: give a text without a slash")
        inside = {key: _plain(where, f"{path}.{key}".lstrip("."), each, depth + 1) for key, each in value.items()}
        if "counts" in inside:
            _require_histogram(where, path, inside)
        return inside
    if isinstance(value, list | tuple):
        return [_number(where, f"{path}[{place}]", each) for place, each in enumerate(value)]
    return _number(where, path, value)


def _number(where: str, path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        fix = "leave the key out where it has no value" if value is None else "give a number, as from float(...)"
        raise InputError(f"{where}: {path} is {_kind(value)}: {fix}")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        finite = False
    if not finite:
        raise InputError(
            f"{where}: {path} is {value!r:.40}, not a finite number: leave the key out where it has no value"
        )
    return value if type(value) in (int, float) else float(value)  # numpy's float64 is a float with a repr of its own


def _require_histogram(where: str, path: str, part: Mapping[str, Any]) -> None:
    counts, edges = part["counts"], part.get("edges")
    place = path or "the row"
    if not isinstance(counts, list) or not counts or min(counts) < 0:
        raise InputError(f"{where}: {place}.counts is not a list of counts from 0 on: give one count per bin")
    if not isinstance(edges, list) or len(edges) != len(counts) + 1:
        has = f"{len(edges)} edges" if isinstance(edges, list) else "no edges"
        raise InputError(
            f"{where}: {place} has {len(counts)} counts and {has}: give the {len(counts) + 1} ends of the bins as "
            "`edges`"
        )
    if any(low >= high for low, high in pairwise(edges)):
        raise InputError(f"{where}: {place}.edges do not increase: sort them, and leave out empty bins")


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    return len(value) if isinstance(value, list) else 1


def _difference(one: Any, other: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Path and values of the first difference between two plain rows; numbers that are nearly equal are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        of_keys = (
            _difference(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
            for key in dict.fromkeys((*one, *other))
        )
        return next(filter(None, of_keys), None)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        of_places = (_difference(*both, f"{path}[{place}]") for place, both in enumerate(zip(one, other, strict=True)))
        return next(filter(None, of_places), None)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return None if math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12) else (path, one, other)
    return None if one == other else (path, one, other)


def _raised(observer: Observer, method: str, error: Exception) -> str:
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
    trace, line = error.__traceback__, 0
    file = getattr(sys.modules.get(type(observer).__module__), "__file__", None)
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    at = f" at line {line} of its file" if line else ""
    return f"{_class(observer)}.{method} raised {said}{at}: correct the class"


def _class(observer: Observer) -> str:
    return f"{type(observer).__module__}.{type(observer).__qualname__}"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}, {value!r:.40}"
