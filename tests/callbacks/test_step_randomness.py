"""Torch's own generators at each step: a function of seed, epoch, batch and rank, and of nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import lightning
import torch

from contrast.callbacks import StepRandomness
from tests.callbacks.fitting import fit, simclr


def draw(seed: int, epoch: int = 0, batch: int = 0, rank: int = 0) -> float:
    trainer = Mock(lightning.Trainer, current_epoch=epoch, global_rank=rank)
    StepRandomness(seed).on_train_batch_start(trainer, simclr(), None, batch)
    return torch.rand(()).item()


def test_steps_ranks_and_seeds_differ_and_repeat() -> None:
    places = [
        (seed, epoch, batch, rank) for seed in range(3) for epoch in range(3) for batch in range(3) for rank in range(3)
    ]
    first = [draw(*place) for place in places]
    torch.manual_seed(99)
    assert [draw(*place) for place in reversed(places)] == first[::-1]
    assert len(set(first)) == len(places)


class Draw(lightning.Callback):
    def __init__(self) -> None:
        self.numbers: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.numbers.append(torch.rand(()).item())


def test_a_resumed_run_draws_what_the_uninterrupted_one_drew(tmp_path: Path) -> None:
    whole, head, tail = Draw(), Draw(), Draw()
    fit(tmp_path, simclr(), [StepRandomness(7), whole])
    trainer = fit(tmp_path, simclr(), [StepRandomness(7), head], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    torch.manual_seed(5)
    fit(tmp_path, simclr(), [StepRandomness(7), tail], resume=tmp_path / "kept.ckpt")
    assert len(set(whole.numbers)) == 6
    assert head.numbers + tail.numbers == whole.numbers
