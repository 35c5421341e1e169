"""Observers that a user could list, right and wrong."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from contrast.losses import Loss, LossOutput
from contrast.observation import Average, Histogram, Observer

__all__ = ["Faulty", "Margins", "Taken"]


class Margins(Observer):
    """Margin of each sampled query's positive over its hardest negative."""

    def __init__(self, bins: int = 20) -> None:
        self.bins = bins

    def add(self, loss: Loss, output: LossOutput) -> None:
        device = output.loss.device
        self.mean, self.margins = Average(device), Histogram(device, self.bins, -2.0, 2.0)
        for seen in output.negatives:  # type: ignore[attr-defined]
            margin = seen.score - seen.hardest[0]
            self.mean.add(margin, seen.negatives > 0)
            self.margins.add_queries(margin, seen.negatives > 0)

    def row(self) -> dict[str, Any]:
        found = self.margins.recorded()
        return {"mean": self.mean.value(), "over_hardest": found} if found else {}


class Taken(Margins):
    """Has a name that the run's own records use."""

    name = "gradient"


class Faulty(Observer):
    """Goes wrong at one step.

    Args:
        how: what happens.
        step: at the step of which rank and number.
    """

    steps = 0

    def __init__(self, how: str, step: int = 3) -> None:
        self.how, self.step = how, step

    def __deepcopy__(self, memo: Any) -> Faulty:
        copied = Faulty(self.how, self.step)
        Faulty.steps += 1
        copied.now = Faulty.steps == self.step
        return copied

    def add(self, loss: Loss, output: LossOutput) -> None:
        if self.now and (self.how == "raise" or (self.how == "raise in one process" and dist.get_rank() == 1)):
            raise ZeroDivisionError("no negatives")
        self.mean = float(output.pairs[0].query.double().square().mean().sqrt())

    def row(self) -> dict[str, Any]:
        if self.now and self.how == "raise in row":
            raise IndexError("no rows")
        values = {"nan": float("nan"), "tensor": torch.tensor(1.0), "each process its own": dist_rank()}
        return {"mean": values.get(self.how, 0.5) if self.now else 0.5}


def dist_rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0
