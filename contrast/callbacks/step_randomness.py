"""Dropout and the like draw from a state that is a function of the step."""

from __future__ import annotations

from typing import Any

import lightning
import torch

from contrast.randomness import Purpose, seed_from

__all__ = ["StepRandomness"]


class StepRandomness(lightning.Callback):
    """Reseed torch's generators from (seed, epoch, batch, rank) before each step.

    Layers such as dropout draw from torch's global generator, which no checkpoint holds; so a run that resumes in
    mid-epoch draws what the uninterrupted one would have drawn.

    Args:
        seed: the run's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = seed_from(self.seed, Purpose.STEP, trainer.current_epoch, batch_idx, trainer.global_rank)
        if pl_module.device.type == "cpu":
            # torch.manual_seed sets this one to the same, and keeps a stack trace for devices that nobody uses: 0.8 ms.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
