"""Convert jsonargparse's nested multi-line error messages into one-line messages."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from contrast.commands.class_names import abstract_class, no_class, not_of_kind
from contrast.errors import InputError, did_you_mean

__all__ = ["every_mistake", "one_line"]

TypedT = TypeVar("TypedT")
_MOST = 3  # maximum number of mistakes in one message
_NULL = re.compile(r"(none|nil|nan|undefined|na|n/a)", re.IGNORECASE)
_TYPES = {
    **{"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"},
    **{"list": "a list", "tuple": "a list", "dict": "a mapping"},
}
_SHAPES = {
    "list": "write values in brackets, [1, 2]",
    "tuple": "write values in brackets, as in [0.5, 1.0]",
    "dict": "write names and values in braces, {name: value}",
}
_NEEDED = {"model", "data", "objective", "train", "views"}  # slots whose class is required
_FIXES = {
    "trainer.precision": "give 32-true, 16-mixed or bf16-mixed",
    "trainer.max_time": "give days, hours, minutes and seconds, as in 00:12:00:00 for 12 hours",
    "trainer.accelerator": "give auto, cpu, gpu or mps",
    "trainer.strategy": "give auto or ddp",
}
"""Suggested values by setting, for settings whose type gives no useful suggestion."""

_NOISE = re.compile(
    r"Expected a <class 'NoneType'>|Given value|Subtypes:|Errors:$|Does not validate against any of the Union|"
    r"Problem with given class_path|either not accessible or invalid|^Parser key \"[^\"]*\":?$"
)


def every_mistake(config: dict[str, Any], check: Callable[[dict[str, Any]], TypedT]) -> TypedT:
    """Run `check` on a configuration; if it fails, report up to three mistakes in one line.

    `check` stops at the first mistake. So we remove the wrong value and check the rest again.

    Args:
        config: the configuration as plain data.
        check: function that raises an `InputError` whose message begins with the path of the wrong value.

    Returns:
        The result of `check`.

    Raises:
        InputError: one line that names up to three mistakes, each with the value as written.
    """
    left, messages = config, list[str]()
    while True:
        try:
            typed = check(left)
        except InputError as error:
            message = str(error)
        else:
            if messages:
                raise InputError("; ".join(messages))
            return typed
        if messages and "required" in message:  # an error caused by our removal of a value
            raise InputError("; ".join(messages))
        path, _, reason = message.partition(": ")
        keys = _keys(left, path)
        message = f"{'.'.join(keys)}: {reason}" if reason else message
        if option := re.match(r"no argument '([^']+)' here", reason):
            keys.append(option[1])
        place = _place(left, keys)
        messages.append(_as_written(".".join(keys), reason, _at(left, place)) if place and not option else message)
        if place is None or len(messages) == _MOST:
            raise InputError("; ".join(messages))
        left = copy.deepcopy(left)
        del _at(left, place[:-1])[place[-1]]


def _keys(config: Any, path: str) -> list[str]:
    """The keys of a message's path, without repeated last keys that come from the alternatives of a type."""
    given = path.split(".")
    keys = given
    while _place(config, keys) is None and len(keys) > 1 and keys[-1] == keys[-2]:
        keys = keys[:-1]
    return keys if _place(config, keys) else given


def _place(config: Any, keys: list[str]) -> list[str] | None:
    """Keys that lead to a value, with the `init_args` that messages leave out; None if the value does not exist."""
    place: list[str] = []
    for key in keys:
        holder = _at(config, place)
        if isinstance(holder, Mapping) and key not in holder and isinstance(holder.get("init_args"), Mapping):
            place.append("init_args")
            holder = holder["init_args"]
        if not isinstance(holder, Mapping) or key not in holder:
            return None
        place.append(key)
    return place or None


def _at(config: Any, place: list[str]) -> Any:
    for key in place:
        config = config[key]
    return config


def _as_written(path: str, reason: str, value: Any) -> str:
    """Message with the value as written, and with a fix for the pitfalls of YAML 1.1."""
    wanted = re.search(r"is not an? (int|float|bool|str|list|tuple|dict): give", reason)
    if path in _FIXES and (wanted or "known:" in reason):
        return f"{path}: {'null' if value is None else value!r:.60} does not fit: {_FIXES[path]}"
    if isinstance(value, str) and _NULL.fullmatch(value) and (wanted or "Sequence" in reason):
        return f"{path}: {value!r} is text to YAML: write null for no value"
    if "<class 'collections.abc.Sequence'>" in reason and not isinstance(value, list | dict):
        return f"{path}: {'null' if value is None else value!r:.60} is not a list: write values in brackets, [1, 2]"
    if not wanted:
        return f"{path}: {reason}"
    kind = wanted[1]
    if isinstance(value, bool):
        read = f"{str(value).lower()} (as YAML reads {'yes and on' if value else 'no and off'})"
        fix = "put the word in quotes" if kind == "str" else f"give {_TYPES[kind]}"
        return f"{path}: {read} is not {_TYPES[kind]}: {fix}"
    if kind in _SHAPES:
        shown = "null" if value is None else repr(value)
        return f"{path}: {shown:.60} is not {_TYPES[kind]}: {_SHAPES[kind]}"
    if kind == "str" and value is not None and not isinstance(value, list | dict):
        return f"{path}: {value} is a number to YAML and not text: put it in quotes, \"'{value}'\" behind a flag"
    if kind == "int" and isinstance(value, str) and _whole(value):
        return f"{path}: {value!r} is not an integer to YAML: write {_whole(value)}"
    shown = "null" if value is None else repr(value)
    return f"{path}: {shown:.60} is not {_TYPES[kind]}: give {_TYPES[kind]}"


def _whole(text: str) -> str:
    """The integer that a text such as 1e1 or 0o10 means; empty if it is not an integer."""
    for read in (lambda: int(text, 0), lambda: float(text)):
        try:
            number = read()
        except (ValueError, OverflowError):
            continue
        if number == number // 1 and abs(number) < 2**63:
            return str(int(number))
    return ""


def one_line(message: str, classes: dict[str, list[str]] | None = None) -> str:
    """Shorten a nested jsonargparse message to the path of the setting and the innermost reason.

    Args:
        message: jsonargparse's message of many lines.
        classes: names of classes that fit a slot, by the last key of the path, to suggest a fix for a misspelt name.
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    reasons = [re.sub(r"^[-\s]+", "", line).strip() for line in message.splitlines()]
    reasons = [re.sub(r"^.*?Parser key \"[^\"]*\":\s*", "", reason) for reason in reasons]
    reasons = [reason for reason in reasons if reason and not _NOISE.search(reason)]
    reason = reasons[0] if reasons else message
    if group := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return f"{group[1]}: no argument {group[2]!r} here: check its spelling, or which class it belongs to"
    if "Expected a <class" not in reason:
        reason = next((each for each in reasons if "is not accepted" in each), reason)
        reason = next((each for each in reasons if "dot import path" in each), reason)
    if "subclass of Dataset" in reason:  # a class with the methods of a data set is accepted too
        reason = next((each for each in reasons if "arguments are required" in each), reason)
    path = ".".join(key.removesuffix(".init_args") for key in keys)
    if named := re.search(r"Expected a dot import path string: (\S+)", message):
        reason = _instead(reason, path, named[1])
    if typed := re.fullmatch(r"Expected an? <class '(\w+)'>", reason.rstrip(".")):
        # If None is allowed too, the given value is on a line of its own, with the innermost value first.
        given = re.search(r"Given value: (.*)", message)
        kind = typed[1]
        if kind == "int" and any("Expected a <class 'float'>" in each for each in reasons):
            kind = "float"
        reason = f"Expected a <class '{kind}'>. Got value: {given[1] if given else 'nothing'}"
    return (f"{path}: " if path else "") + _worded(reason, path, classes or {})


def _instead(reason: str, path: str, name: str) -> str:
    """Better reason for a setting that takes a class or a number: a name was probably meant as a class."""
    if _NULL.fullmatch(name) and path.rpartition(".")[2] not in _NEEDED:
        return f"{name!r} is text to YAML: write null for no value"
    if "Expected a <class 'float'>" in reason and "does not fit here" in (other := no_class(path, name)):
        return other
    return reason


def _worded(reason: str, path: str, classes: dict[str, list[str]]) -> str:
    built = re.search(r"Got value: Namespace\(class_path='([^']+)'", reason)
    reason = re.sub(r"Got value: Namespace\(.*$", "", reason).strip().rstrip(".")
    reason = " ".join(reason.split())
    if unknown := re.search(r"Expected a dot import path string: (.+)", reason):
        name = unknown[1]
        return no_class(path, name, classes.get(path.rpartition(".")[2], ()))
    if other := re.search(r"Import path (\S+) does not correspond to a subclass of Dataset", reason):
        return f"{other[1]} is not a data set: give a class with __len__ and __getitem__(index)"
    if other := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", reason):
        return not_of_kind(path, other[1], other[2])
    if of_none := re.search(r"Expected an instantiatable class, but (\S+) is abstract", reason):
        return abstract_class(path, of_none[1])
    if missing := re.search(r"expects a function or a callable class: (.*)", reason):
        return (
            f"{missing[1]}: correct the class's name" if missing[1] else f"{built[1] if built else reason} does not fit"
        )
    if denied := re.search(r"Importing '([^']+)' is not allowed", reason):
        return f"{denied[1]!r} may not be named here, as it could run any code: give a class that this setting takes"
    if "must include a class_path" in reason:
        return f"arguments without a class: set the class first, as in --{path} CLASS"
    if option := re.search(r"Option '([^']+)' is not accepted", reason):
        return f"no argument {option[1]!r} here: check its spelling, or which class it belongs to"
    if typed := re.search(r"Expected an? <class '(\w+)'>\. Got value: (.*)", reason):
        kind = f"{'an' if typed[1] == 'int' else 'a'} {typed[1]}"
        return f"{typed[2].strip()!r} is not {kind}: give {kind}"
    if pair := re.search(r"Expected a tuple with (\d+) elements\. Got value: (.*)", reason):
        return f"{pair[2]} does not have {pair[1]} values: give {pair[1]}"
    if words := re.search(r"Expected an? typing\.Literal\[(.*)\]\. Got value: (.*)", reason):
        return (
            f"unknown value {words[2]!r}{did_you_mean(words[2], re.findall(r'[^, ]+', words[1].replace(chr(39), '')))}"
        )
    return reason
