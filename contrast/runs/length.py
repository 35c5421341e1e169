"""Length of a run in steps and epochs, and which pieces never act within it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["MayStartLate", "RunLength"]


@dataclass(frozen=True)
class RunLength:
    """The length of a run from its first step to its last; a run that is resumed for longer has the new length.

    Args:
        steps: optimiser steps.
        steps_per_epoch: optimiser steps of an epoch.
        samples_per_step: of all processes and of all batches whose gradients are added up.
    """

    steps: int
    steps_per_epoch: int
    samples_per_step: int

    @property
    def epochs(self) -> int:
        """How many epochs the run begins."""
        return -(-self.steps // self.steps_per_epoch)

    def before_epoch(self, name: str, epoch: float, consequence: str) -> str | None:
        """One sentence where the run ends before an epoch begins; None where it does not.

        Args:
            name: of the piece.
            epoch: from which it acts, counted from 0.
            consequence: what it never does.
        """
        if epoch * self.steps_per_epoch < self.steps:
            return None
        return f"{name} starts at epoch {epoch:g} and this run has {self.epochs}: {consequence}"


@runtime_checkable
class MayStartLate(Protocol):
    """A piece that acts from some step on: losses' pieces, banks, schedules, callbacks."""

    def never_acts(self, run: RunLength) -> str | None:
        """One sentence without a full stop where the piece, or a part of it, never acts in this run; else None."""
        ...
