"""One line out of the parser's nested explanations."""

from __future__ import annotations

import re

from contrast.errors import did_you_mean

__all__ = ["one_line"]

_NOISE = re.compile(
    r"Expected a <class 'NoneType'>|Given value|Subtypes:|Errors:$|Does not validate against any of the Union|"
    r"Problem with given class_path|either not accessible or invalid|^Parser key \"[^\"]*\":?$"
)


def one_line(message: str, classes: dict[str, list[str]] | None = None) -> str:
    """The path of keys and the innermost reason of a message that jsonargparse made of nested alternatives.

    Args:
        message: as jsonargparse words it, over many lines.
        classes: names of the classes that a key takes, by the key's last name, for a hint at a misspelt one.
    """
    keys = re.findall(r'Parser key "([^"]+)"', message)
    reasons = [re.sub(r"^[-\s]+", "", line).strip() for line in message.splitlines()]
    reasons = [re.sub(r"^.*?Parser key \"[^\"]*\":\s*", "", reason) for reason in reasons]
    reasons = [reason for reason in reasons if reason and not _NOISE.search(reason)]
    reason = reasons[0] if reasons else message
    if "Expected a <class" not in reason:
        reason = next((each for each in reasons if "dot import path" in each), reason)
    path = ".".join(key.removesuffix(".init_args") for key in keys)
    if typed := re.fullmatch(r"Expected an? <class '(\w+)'>", reason.rstrip(".")):
        # Where a value may also be left out, the value stands on a line of its own, the innermost one first.
        given = re.search(r"Given value: (.*)", message)
        reason = f"Expected a <class '{typed[1]}'>. Got value: {given[1] if given else 'nothing'}"
    return (f"{path}: " if path else "") + _worded(reason, path, classes or {})


def _worded(reason: str, path: str, classes: dict[str, list[str]]) -> str:
    reason = re.sub(r"Got value: Namespace\(.*$", "", reason).strip().rstrip(".")
    reason = " ".join(reason.split())
    if unknown := re.search(r"Expected a dot import path string: (\S+)", reason):
        name = unknown[1]
        known = classes.get(path.rpartition(".")[2], [])
        return f"no class {name!r}" + (did_you_mean(name, known) if known else "; give a class's dotted path")
    if denied := re.search(r"Importing '([^']+)' is not allowed", reason):
        return (
            f"{denied[1]!r} may not be named here, as it could run anything: give a class of the kind that belongs here"
        )
    if "must include a class_path" in reason:
        return f"arguments without a class: name it first, as in --{path} CLASS"
    if option := re.search(r"Option '([^']+)' is not accepted", reason):
        return f"no argument {option[1]!r} here: check its spelling, or which class it belongs to"
    if typed := re.search(r"Expected an? <class '(\w+)'>\. Got value: (.*)", reason):
        return f"{typed[2].strip()!r} is no {typed[1]}: give {'an' if typed[1] == 'int' else 'a'} {typed[1]}"
    return reason
