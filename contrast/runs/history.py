"""history.jsonl: the settings of a run that changed at a resume, and the step of each change.

``config.yaml`` is the current configuration. A resume with other settings rewrites it, and appends one row to
``history.jsonl`` as soon as the resumed run has begun::

    {"step": 40, "epoch": 2, "when": "2026-03-01T12:00:00+00:00",
     "changed": {"model.loss.temperature": {"old": 0.9, "new": 0.2}}}

In this example, steps up to 40 had the old value, and later steps have the new value. A run that resumes from an
earlier checkpoint replaces its later steps, so a row replaces all earlier rows of the same step or of later steps.
``old`` or ``new`` is left out if the setting did not exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrast.records import append_row, every_row
from contrast.runs.status import utc_now

__all__ = ["Change", "changed_settings", "describe_changes", "read_history", "settings_by_flag", "write_history"]

Changed = dict[str, dict[str, Any]]
"""Changed settings by flag name: ``{"old": value, "new": value}``; a value is left out if the setting did not exist."""

UNSET = "not set"


@dataclass(frozen=True)
class Change:
    """One change of a setting at a resume.

    Attributes:
        step: the last optimiser step with the old value.
        epoch: the epoch, from 0, of the first step with the new value.
        when: time of the resume, ISO 8601 in UTC.
        key: the setting's flag name, for example ``model.loss.temperature``.
        old: the old value as text.
        new: the new value as text.
    """

    step: int
    epoch: int
    when: str
    key: str
    old: str
    new: str


def settings_by_flag(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a configuration into a mapping from flag name to value; a class is its path, a list is one value.

    Example:
        >>> settings_by_flag({"model": {"class_path": "MoCo", "init_args": {"momentum": 0.9}}})
        {'model': 'MoCo', 'model.momentum': 0.9}
    """
    found: dict[str, Any] = {}
    _collect(config, "", found)
    return found


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any], given: Mapping[str, Any]) -> Changed:
    """Difference between two configurations.

    A setting that exists only in `after` counts as changed if the user gave it. It does not count if it is a default
    that was written out, because a newer version of contrast may have settings that did not exist when `before` was
    written.

    Args:
        before: the configuration of the steps so far.
        after: the resolved configuration of the next steps.
        given: `after` before its defaults were written out.

    Returns:
        The changed settings by flag name.
    """
    old, new = settings_by_flag(before), settings_by_flag(after)
    by_flag = settings_by_flag(given)
    changed: Changed = {}
    for key in dict.fromkeys((*old, *new)):
        if key in old and key in new:
            if not _same(old[key], new[key]):
                changed[key] = {"old": old[key], "new": new[key]}
        elif key in old:
            changed[key] = {"old": old[key]}
        elif key in by_flag:
            changed[key] = {"new": new[key]}
    return changed


def describe_changes(changed: Changed, step: int) -> list[str]:
    """Describe each change in one line, for example ``seed_everything 0 -> 1 from step 40``.

    Args:
        changed: the changed settings by flag name.
        step: the last optimiser step with the old values.
    """
    return [
        f"{key} {_text(each.get('old', UNSET))} -> {_text(each.get('new', UNSET))} from step {step}"
        for key, each in changed.items()
    ]


def write_history(path: Path, step: int, epoch: int, changed: Changed, after: Mapping[str, Any]) -> None:
    """Append a row of changed settings to ``history.jsonl``.

    Nothing is written if no setting changed and the row would replace no earlier row.

    Args:
        path: path of ``history.jsonl``.
        step: optimiser step of the checkpoint that the run resumes from.
        epoch: the epoch, from 0, in which the run resumes.
        changed: settings that differ from the configuration in that checkpoint.
        after: the configuration from now on.
    """
    earlier = _kept_rows(path)
    changed = {**_still_true(earlier, step, changed, settings_by_flag(after)), **_joined(earlier, step, changed)}
    if changed or any(row["step"] >= step for row in earlier):
        append_row(path, {"step": step, "epoch": epoch, "when": utc_now(), "changed": changed})


def read_history(path: Path) -> list[Change]:
    """Read the changes of settings in order of step, without rows that a later resume replaced.

    Args:
        path: path of ``history.jsonl``.

    Returns:
        The changes; an empty list if the file is missing or unreadable.
    """
    return [change for row in _kept_rows(path) for change in _changes(row)]


def _kept_rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = every_row(path)
    except OSError:
        return []
    kept: list[dict[str, Any]] = []
    for row in rows:
        if _is_count(row.get("step")) and isinstance(row.get("changed"), dict):
            kept = [before for before in kept if before["step"] < row["step"]]
            kept.append(row)
    return kept


def _at(rows: list[dict[str, Any]], step: int) -> Changed:
    """Changes that were already recorded at exactly this step; the step's checkpoint may have been rewritten since."""
    return {
        key: value
        for row in rows
        if row["step"] == step
        for key, value in row["changed"].items()
        if isinstance(value, dict)
    }


def _joined(rows: list[dict[str, Any]], step: int, changed: Changed) -> Changed:
    """Merge each change with an earlier change of the same setting at the same step; drop changes that cancel out."""
    joined: Changed = {}
    for key, value in changed.items():
        before = _at(rows, step).get(key)
        if before is not None and _same(before.get("new"), value.get("old")):
            value = _pair(before, "old") | _pair(value, "new")
        if value.keys() != {"old", "new"} or not _same(value["old"], value["new"]):
            joined[key] = value
    return joined


def _still_true(rows: list[dict[str, Any]], step: int, changed: Changed, after: Mapping[str, Any]) -> Changed:
    """Changes recorded at this step that the checkpoint already contains and that remain in effect."""
    return {
        key: value
        for key, value in _at(rows, step).items()
        if key not in changed and _same(value.get("new"), after.get(key))
    }


def _pair(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: value[name]} if name in value else {}


def _changes(row: dict[str, Any]) -> Iterable[Change]:
    epoch = row["epoch"] if _is_count(row.get("epoch")) else 0
    for key, value in row["changed"].items():
        if isinstance(value, dict):
            old, new = (_text(value.get(name, UNSET)) for name in ("old", "new"))
            yield Change(row["step"], epoch, str(row.get("when") or ""), key, old, new)


def _collect(value: Any, key: str, found: dict[str, Any]) -> None:
    if not isinstance(value, Mapping) or not value:
        found[key] = value
        return
    if isinstance(value.get("class_path"), str):
        found[key] = value["class_path"]
        value = value.get("init_args") or {}
    for name, item in value.items() if isinstance(value, Mapping) else ():
        _collect(item, f"{key}.{name}" if key else str(name), found)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, or are two paths of one class of this package (its modules may move)."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(map(_same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, str) and isinstance(other, str) and one.startswith("contrast.") and "." in other:
        return one.split(".")[0] == other.split(".")[0] and one.split(".")[-1] == other.split(".")[-1]
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition(".")[2] if value.startswith("contrast.") else value
    return json.dumps(value, default=str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
