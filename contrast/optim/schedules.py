"""The course of the learning rate over a run: pure functions of the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from contrast.arguments import checked
from contrast.errors import InputError, did_you_mean
from contrast.run_length import RunLength

__all__ = ["Constant", "Schedule", "Steps", "WarmupCosine"]


class Schedule(ABC):
    """The share of the full learning rate to be used at each step.

    A warm-up of W steps (its epochs times steps an epoch, not rounded) rises by equal parts, ``(step + 1) / (W + 1)``:
    the first step already learns, and step W has the full rate. A run that ends sooner stays on the way up.
    """

    def never_acts(self, run: RunLength) -> str | None:
        """One sentence without a full stop where a part of the course lies behind the end of the run; else None."""
        return None

    @abstractmethod
    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """What the rate is multiplied by.

        Args:
            step: optimiser steps done so far, from 0; `total_steps` is asked for too, once the run is over.
            total_steps: optimiser steps of the whole run.
            steps_per_epoch: optimiser steps of one epoch.

        Returns:
            A number within [0, 1].
        """


class Constant(Schedule):
    """The full rate, after a warm-up if one is wanted.

    Args:
        warmup_epochs: length of the warm-up.

    Raises:
        InputError: where it is negative.
    """

    @checked
    def __init__(self, warmup_epochs: float = 0) -> None:
        self.warmup_epochs = _not_negative("Constant", warmup_epochs)

    def never_acts(self, run: RunLength) -> str | None:
        return _long_warm_up("Constant", self.warmup_epochs, run)

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return _warm_up(step, self.warmup_epochs * steps_per_epoch)


class WarmupCosine(Schedule):
    """Half a cosine from the full rate to `final`, after a warm-up: ``final + (1 - final) ½ (1 + cos π p)``.

    p runs from 0 at the end of the warm-up to 1 at `total_steps`, so the last step comes close to `final`. With
    ``every="epoch"`` all steps of an epoch have the rate of its first step; the warm-up rises by step in either case.

    Source: Loshchilov and Hutter, arXiv 1608.03983, without restarts; warm-up of 10 epochs as in SimCLR, arXiv
    2002.05709, whose code starts it at a rate of 0 and so loses a step. MoCo v2 has no warm-up. The authors' code of
    MoCo v2 (main_moco.py:497-506 at 132aea9) and SimSiam (main_simsiam.py:359-366 at a7bc177) changes the rate by
    epoch; the authors of SimCLR, MoCo v3, BYOL, Barlow Twins and VICReg change it by step.

    Args:
        warmup_epochs: length of the warm-up.
        final: the factor at the end, within [0, 1].
        every: whether the cosine moves at every step or at the start of every epoch.

    Raises:
        InputError: where an argument is outside its range.

    Example:
        >>> [round(WarmupCosine(warmup_epochs=1).factor(step, 6, 2), 2) for step in range(7)]
        [0.33, 0.67, 1.0, 0.85, 0.5, 0.15, 0.0]
        >>> [round(WarmupCosine(0, every="epoch").factor(step, 6, 2), 2) for step in range(7)]
        [1.0, 1.0, 0.75, 0.75, 0.25, 0.25, 0.0]
    """

    @checked
    def __init__(self, warmup_epochs: float = 10, final: float = 0.0, every: Literal["step", "epoch"] = "step") -> None:
        self.warmup_epochs = _not_negative("WarmupCosine", warmup_epochs)
        if not 0 <= final <= 1:
            raise InputError(f"WarmupCosine's final {final:g} is outside [0, 1]: it is a share of the full rate")
        if every not in ("step", "epoch"):
            raise InputError(f"WarmupCosine's every {every!r} is not known{did_you_mean(every, ('step', 'epoch'))}")
        self.final, self.every = final, every

    def never_acts(self, run: RunLength) -> str | None:
        return _long_warm_up("WarmupCosine", self.warmup_epochs, run)

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup or total_steps <= warmup:
            return _warm_up(step, warmup)
        if self.every == "epoch" and step < total_steps:
            step = step // steps_per_epoch * steps_per_epoch
        progress = min(1.0, max(0.0, step - warmup) / (total_steps - warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Steps(Schedule):
    """The full rate, multiplied by `factor` at every milestone.

    Source: MoCo v1 (arXiv 1911.05722): a tenth at epochs 120 and 160 of 200.

    Args:
        milestones: epochs, rising, from whose start on the rate is lower.
        factor: what it is multiplied by at each, within [0, 1].
        warmup_epochs: length of the warm-up.

    Raises:
        InputError: where milestones do not rise from above 0, or another argument is outside its range.

    Example:
        >>> [Steps([2, 3], factor=0.5).factor(step, 8, 2) for step in range(8)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    @checked
    def __init__(self, milestones: Sequence[int], factor: float = 0.1, warmup_epochs: float = 0) -> None:
        self.milestones = tuple(milestones)
        if any(later <= earlier for earlier, later in zip((0, *self.milestones), self.milestones, strict=False)):
            raise InputError(f"Steps' milestones {list(milestones)} do not rise from above 0: give epochs in order")
        if not 0 <= factor <= 1:
            raise InputError(f"Steps' factor {factor:g} is outside [0, 1]; MoCo's is 0.1")
        self.drop, self.warmup_epochs = factor, _not_negative("Steps", warmup_epochs)

    def never_acts(self, run: RunLength) -> str | None:
        late = [each for each in self.milestones if each * run.steps_per_epoch >= run.steps]
        if not late:
            return _long_warm_up("Steps", self.warmup_epochs, run)
        return (
            f"Steps has milestones at epochs {', '.join(map(str, late))} and this run has {run.epochs}: the rate will "
            "not fall there"
        )

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
        return _warm_up(step, self.warmup_epochs * steps_per_epoch) * self.drop**passed


def _warm_up(step: int, warmup_steps: float) -> float:
    return (step + 1) / (warmup_steps + 1) if step < warmup_steps else 1.0


def _long_warm_up(owner: str, warmup_epochs: float, run: RunLength) -> str | None:
    steps = warmup_epochs * run.steps_per_epoch
    if steps < run.steps:
        return None
    reached = _warm_up(run.steps - 1, steps)
    return (
        f"{owner} warms up for {warmup_epochs:g} epochs and this run has {run.epochs}: the rate will reach "
        f"{100 * reached:.0f} % of the full one"
    )


def _not_negative(owner: str, warmup_epochs: float) -> float:
    if not warmup_epochs >= 0:
        raise InputError(f"{owner}'s warmup_epochs {warmup_epochs:g} is below 0")
    return warmup_epochs
