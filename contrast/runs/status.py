"""status.json: what a training process says about its run, and what a reader concludes."""

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
"""What a process says of its run; it cannot say that it was killed."""
Standing = Literal["starting", "running", "finished", "stopped", "failed", "killed", "silent"]
"""What a reader sees: `killed` where the process is gone without a word, `silent` where nothing was heard for long."""

STATES: tuple[State, ...] = ("starting", "running", "finished", "stopped", "failed")
KILLED_AFTER = 60.0
SILENT_AFTER = 600.0


@dataclass(frozen=True)
class Status:
    """The content of ``status.json``.

    Args:
        state: what the process says; `starting` while data and network are built.
        step: optimiser steps done.
        steps: optimiser steps planned, None where nobody knows.
        epoch: the epoch that is being trained, from 0.
        epochs: epochs planned, None where the run is measured in steps.
        started: when this process began to train, ISO 8601 in UTC.
        updated: when this was written, likewise.
        host: the machine's name.
        process: the process's number on it.
        message: why it failed or stopped, in one line; else empty.
        checkpoint: whether the run had a checkpoint by then.
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
        """Seconds since it was written, at least 0: clocks of two machines may differ."""
        return max(0.0, (now - datetime.fromisoformat(self.updated)).total_seconds())

    def standing(self, now: datetime) -> Standing:
        """What the run is doing as far as can be told from here.

        A process is looked for on its own host alone. One that lives but has written nothing for ten minutes is as
        silent as one elsewhere: it hangs, or another has got its number.
        """
        if self.state not in ("starting", "running"):
            return self.state
        age = self.age(now)
        if age > KILLED_AFTER and self.host == socket.gethostname() and not _lives(self.process):
            return "killed"
        return "silent" if age > SILENT_AFTER else self.state


def utc_now() -> str:
    """Now, as the file writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_status(path: Path, status: Status) -> None:
    """Replace the file in one piece: a reader sees the old one or the new one."""
    with whole_file(path) as part:
        part.write_text(json.dumps(dataclasses.asdict(status), indent=1) + "\n", encoding="utf-8")


def read_status(path: Path) -> Status | None:
    """What the file says; None where there is none, or one that is not what it should be."""
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
    """The text where it is a moment of a known time zone."""
    try:
        known = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return None
    return value if known else None


def _lives(process: int) -> bool:
    """Whether there is a process of this number here; on Windows, where asking would signal it, always."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except PermissionError:  # it is there and somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return process > 0
