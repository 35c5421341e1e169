"""What all methods share."""

from __future__ import annotations

import pytest
import torch

from contrast.data.batch import Batch
from contrast.methods import SimCLR
from contrast.models import ConvNet


def test_a_piece_is_told_of_each_epoch_once_and_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """By training_step itself: Lightning leaves its own hook out where a run resumes in mid-epoch."""
    method = SimCLR(ConvNet((4,), channels=1, image_size=8))
    told: list[tuple[str, int]] = []
    monkeypatch.setattr(method.loss, "begin_epoch", lambda epoch: told.append(("epoch", epoch)))
    monkeypatch.setattr(method.loss, "begin_step", lambda epoch, step: told.append(("step", step)))
    batch = Batch((torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)), torch.arange(4))
    method.training_step(batch, 0)
    method.training_step(batch, 1)
    assert told == [("epoch", 0), ("step", 0), ("step", 0)]


def test_what_the_loss_saw_is_there_before_backward_and_gone_after() -> None:
    method = SimCLR(ConvNet((4,), channels=1, image_size=8))
    batch = Batch((torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)), torch.arange(4))
    output = method.training_step(batch, 0)
    assert method.seen is output["output"]
    method.on_after_backward()
    assert method.seen is None
