"""What a configuration is made of: mappings, lists, texts and numbers that everything behind it can take."""

from __future__ import annotations

import datetime
import math
from typing import Any

from contrast.errors import InputError

__all__ = ["is_text", "require_plain"]

_DEEPEST, _MOST = 40, 20_000
_OF_CLASSES = {"class_path", "init_args", "dict_kwargs"}
_INTEGERS = range(-(2**63), 2**64)  # what torch and numpy count with
_LARGEST = 3.4e38  # of the float32 in which networks are trained


def require_plain(value: Any, where: str) -> None:
    """See that a value out of a file, a flag or a checkpoint is no more than a configuration needs.

    Args:
        value: as YAML or a checkpoint gave it.
        where: it is from, for messages.

    Raises:
        InputError: for keys that are no names, classes that are no dotted names, arguments that are no mapping, numbers
            beyond 64 bits, texts that no file can be called, and what is nested endlessly or grows beyond all measure.
    """
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen = 0
    while waiting:
        path, item, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST:
            raise InputError(f"{where}: nested too deeply or repeated too often to be a configuration: write it out")
        if isinstance(item, dict):
            _require_mapping(item, f"{where}: {path}" if path else where)
            waiting += [(f"{path}.{key}" if path else key, each, depth + 1) for key, each in item.items()]
        elif isinstance(item, list | tuple):
            waiting += [(path, each, depth + 1) for each in item]
        elif reason := _unfit(item):
            place = "" if where == f"--{path}" else f"{path or 'the whole'}: "
            raise InputError(f"{where}: {place}{reason}")


def _require_mapping(found: dict[Any, Any], where: str) -> None:
    for key in found:
        if not isinstance(key, str) or not key or _unfit(key):
            raise InputError(f"{where}: the key {key!r:.60} is no name: give a word, in quotes if YAML reads another")
    named = found.get("class_path", "a.b")
    if not isinstance(named, str) or not all(part.isidentifier() for part in named.split(".")):
        raise InputError(
            f"{where}: class_path {named!r:.60} is no class: give its name, dotted if it is from elsewhere"
        )
    beside = sorted(found.keys() - _OF_CLASSES) if found.keys() & _OF_CLASSES else []
    if beside:  # it would be left out in silence
        raise InputError(f"{where}: {beside[0]!r} stands beside class_path or init_args: arguments belong in init_args")
    if not isinstance(found.get("init_args"), dict | None):
        raise InputError(f"{where}: init_args {found['init_args']!r:.60} is no mapping of names to values")


def _unfit(item: Any) -> str:
    if isinstance(item, int) and item not in _INTEGERS:
        return f"an integer of {item.bit_length()} bits: give one of at most 64"
    if isinstance(item, float) and abs(item) > _LARGEST and math.isfinite(item):
        return f"{item} is beyond what 32-bit floats hold: give a number up to {_LARGEST}"
    if isinstance(item, str) and not is_text(item):
        return f"the text {item!r:.60} has characters that no file name or page can have: leave them out"
    if isinstance(item, datetime.date):
        return f"YAML reads {item} as a date: quote it for a text, or give a number"
    if item is None or isinstance(item, int | float | str):
        return ""
    return f"{type(item).__name__} {item!r:.60}: quote it"


def is_text(word: str) -> bool:
    """Whether a word can be a file's name and stand on a page: no zero byte, and no bytes that are not of UTF-8."""
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in word)
