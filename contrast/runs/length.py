"""Length of a run in steps and epochs, and detection of components that never become active in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from contrast.errors import counted

__all__ = ["MayStartLate", "RunLength"]


@dataclass(frozen=True)
class RunLength:
    """Length of a run from its first step to its last; a run that is resumed to train longer has the new length.

    Attributes:
        steps: number of optimiser steps.
        steps_per_epoch: optimiser steps per epoch.
        samples_per_step: samples per optimiser step, over all processes and all accumulated batches.
    """

    steps: int
    steps_per_epoch: int
    samples_per_step: int

    @property
    def epochs(self) -> int:
        """Number of epochs that the run begins."""
        return -(-self.steps // self.steps_per_epoch)

    def before_epoch(self, name: str, epoch: float, consequence: str) -> str | None:
        """Return a warning sentence if the run ends before an epoch begins, else None.

        Args:
            name: name of the component in the sentence.
            epoch: the epoch, from 0, from which the component is active.
            consequence: what the component never does in this run.
        """
        if epoch * self.steps_per_epoch < self.steps:
            return None
        return f"{name} starts at epoch {epoch:g} and this run has {counted(self.epochs, 'epoch')}: {consequence}"


@runtime_checkable
class MayStartLate(Protocol):
    """Protocol of components that become active after some step: parts of losses, banks, schedules, callbacks."""

    def never_acts(self, run: RunLength) -> str | None:
        """Return a sentence without a full stop if the component, or a part of it, is never active in this run.

        Args:
            run: length of the run.

        Returns:
            The sentence; None if every part becomes active.
        """
        ...
