"""One command on one wrong input, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["SPRUNG", "Case", "Outcome", "Verdict", "nothing"]

SPRUNG = "SPRUNG"
"""The file that a trap writes into its folder where somebody runs it."""

Verdict = Literal["accepted", "refused", "stopped", "interrupted", "failed"]


def nothing(_: Path) -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Case:
    """One command.

    Args:
        kind: what sort of input is wrong, for the table.
        what: the input in a few words, so that a reader can make it again.
        arguments: of `contrast`, run in a folder of its own.
        prepare: writes the files that the arguments name into that folder.
        seconds: after which a command hangs.
        interrupt: a signal, and after how many seconds the command gets it.
    """

    kind: str
    what: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path], None] = nothing
    seconds: float = 30.0
    interrupt: tuple[int, float] | None = None

    def __repr__(self) -> str:
        return f"{self.kind}: {self.what}: contrast {' '.join(map(repr, self.arguments))[:500]}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Args:
        verdict: accepted (exit 0), refused (2, one line), stopped (1, one line), interrupted (128 + signal, one line),
            or failed.
        reason: why it failed; else the line on standard error, or nothing.
        code: of the exit; negative for a signal.
        seconds: it took.
        error: all of standard error.
    """

    verdict: Verdict
    reason: str
    code: int
    seconds: float
    error: str
