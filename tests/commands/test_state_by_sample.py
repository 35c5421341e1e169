"""Checkpoints that grow with the training set say so at the start, from a gigabyte on."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from contrast.commands.run import _state_by_sample
from contrast.losses import BadPairMining, ContrastiveLoss, InfoNCE
from contrast.methods import SimCLR
from contrast.models import ConvNet, LinearHead


def simclr(weighting: BadPairMining | None = None) -> SimCLR:
    loss = ContrastiveLoss(InfoNCE(), weighting=weighting)
    return SimCLR(ConvNet((4,), channels=1, image_size=8), partial(LinearHead, output_width=4), loss)


@pytest.mark.parametrize(("samples", "size"), [(1_000_000, None), (20_000_000, "1.2 GB")])
def test_state_by_sample_is_said_from_a_gigabyte_on(samples: int, size: str | None) -> None:
    found = _state_by_sample(simclr(), samples, {"pairs": {"epochs": 40}})
    expected = (
        f"state   {size} in each checkpoint, 60 bytes for each of 20,000,000 samples; --pairs.epochs 0 turns the pair"
    )
    assert found.startswith(expected) if size else found == ""
    assert _state_by_sample(simclr(), samples, {"pairs": {"epochs": 0}}) == ""


def test_a_minings_memory_counts() -> None:
    with torch.device("meta"):
        mining = BadPairMining(samples=60_000_000)
    found = _state_by_sample(simclr(mining), 60_000_000, {"pairs": {"epochs": 0}})
    assert found == "state   1.1 GB in each checkpoint, 18 bytes for each of 60,000,000 samples\n"
