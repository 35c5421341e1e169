"""status.json: state of a run as its training process reports it, and detection of killed or silent processes."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from contrast.checked_text import parse_json, small_enough
from contrast.runs.files import whole_file

__all__ = ["SILENT_AFTER", "STATES", "Standing", "State", "Status", "read_status", "utc_now", "write_status"]

State = Literal["starting", "running", "finished", "stopped", "failed"]
"""State that a training process writes; a process cannot write that it was killed."""
Standing = Literal["starting", "running", "finished", "stopped", "failed", "killed", "silent"]
"""State that a reader infers.

`killed`: the process has ended without a final state. `silent`: the process has not written for a long time.
"""

STATES: tuple[State, ...] = ("starting", "running", "finished", "stopped", "failed")
KILLED_AFTER = 60.0
SILENT_AFTER = 600.0


@dataclass(frozen=True)
class Status:
    """Content of ``status.json``.

    Attributes:
        state: the state that the process reports; `starting` while data and network are built.
        step: optimiser steps done.
        steps: optimiser steps planned; None if unknown.
        epoch: the current epoch, from 0.
        epochs: epochs planned; None if the run's length is given in steps.
        started: time when this process began to train, ISO 8601 in UTC.
        updated: time when this status was written, ISO 8601 in UTC.
        host: name of the machine.
        process: process id on that machine.
        message: reason of a failure or stop, in one line; otherwise empty.
        checkpoint: whether the run had a checkpoint at that time.
    """

    state: State
    step: int
    steps: int | None
    epoch: int
    epochs: int | None
    started: str
    updated: str
    host: str
    process: int
    message: str = ""
    checkpoint: bool = False

    def age(self, now: datetime) -> float:
        """Seconds since the status was written; at least 0, because the clocks of two machines may differ.

        Args:
            now: the current time, with a time zone.
        """
        return max(0.0, (now - datetime.fromisoformat(self.updated)).total_seconds())

    def standing(self, now: datetime) -> Standing:
        """State of the run as far as this machine can tell.

        A process can only be looked up on its own host. A process that exists but has written nothing for ten minutes
        counts as `silent`, like a process on another host: it hangs, or another process has received its id.

        Args:
            now: the current time, with a time zone.
        """
        if self.state not in ("starting", "running"):
            return self.state
        age = self.age(now)
        if age > KILLED_AFTER and self.host == socket.gethostname() and not _lives(self.process):
            return "killed"
        return "silent" if age > SILENT_AFTER else self.state


def utc_now() -> str:
    """Current UTC time as ISO 8601 text with seconds, as ``status.json`` stores it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_status(path: Path, status: Status) -> None:
    """Write ``status.json`` atomically: a reader sees either the old file or the new file.

    Args:
        path: path of ``status.json``.
        status: the new content.
    """
    with whole_file(path) as part:
        part.write_text(json.dumps(dataclasses.asdict(status), indent=1) + "\n", encoding="utf-8")


def read_status(path: Path) -> Status | None:
    """Read ``status.json``.

    Args:
        path: path of ``status.json``.

    Returns:
        The status; None if the file is missing or invalid.
    """
    try:
        content = parse_json(path.read_bytes()) if small_enough(path) else None
    except (OSError, ValueError):
        return None
    return _status(content) if isinstance(content, dict) else None


def _status(content: dict[str, Any]) -> Status | None:
    state = next((each for each in STATES if each == content.get("state")), None)
    step, process = _count(content.get("step")), _count(content.get("process"))
    updated = _moment(content.get("updated"))
    if state is None or step is None or process is None or updated is None:
        return None
    return Status(
        state=state,
        step=step,
        steps=_count(content.get("steps")),
        epoch=_count(content.get("epoch")) or 0,
        epochs=_count(content.get("epochs")),
        started=_moment(content.get("started")) or updated,
        updated=updated,
        host=str(content.get("host") or ""),
        process=process,
        message=" ".join(str(content.get("message") or "").split()),
        checkpoint=content.get("checkpoint") is True,
    )


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**53 else None


def _moment(value: Any) -> str | None:
    """Return the text if it is an ISO 8601 time with a time zone, else None."""
    try:
        known = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return None
    return value if known else None


def _lives(process: int) -> bool:
    """Whether a process with this id exists here; always True on Windows, where the check would signal the process."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except PermissionError:  # the process exists and belongs to another user
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return process > 0
