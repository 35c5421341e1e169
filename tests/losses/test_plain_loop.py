"""Views and losses in a training loop of one's own: no Lightning, no configuration, no run folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from contrast import in_batch_pairs, queue_pairs
from contrast.banks import KeyQueue
from contrast.data import Digits, SimCLRViews
from contrast.losses import DCL, DCLW, ContrastiveLoss, InfoNCE, LearnedTemperature, Objective
from contrast.models import ConvNet, SimCLRHead


def images() -> torch.Tensor:
    return torch.stack([image for image, _ in Digits()])


def encoder() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(ConvNet((8, 16), channels=1, image_size=8), SimCLRHead(16, output_width=8))


@pytest.mark.parametrize("objective", [InfoNCE(), DCL(), DCLW()], ids=lambda objective: type(objective).__name__)
def test_in_batch_negatives(objective: Objective) -> None:
    digits, network, views = images(), encoder(), SimCLRViews(size=8, crop_scale=(0.4, 1.0), flip=0.0, blur=0.0)
    loss = ContrastiveLoss(objective, LearnedTemperature(0.2))
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=0.003)
    course = []
    for step in range(60):
        index = torch.randperm(len(digits), generator=torch.Generator().manual_seed(step))[:64]
        loss.begin_step(epoch=0, step=step)
        z1, z2 = (nn.functional.normalize(network(view), dim=-1) for view in views(digits[index], index, step, seed=0))
        output = loss(in_batch_pairs(z1, z2, index))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        course.append(output.loss.item())
    first, last = sum(course[:10]) / 10, sum(course[-10:]) / 10
    assert last < first - 0.5, (first, last)


def test_a_queue_of_negatives() -> None:
    digits, network, views = images(), encoder(), SimCLRViews(size=8, crop_scale=(0.4, 1.0), flip=0.0, blur=0.0)
    loss, queue = ContrastiveLoss(InfoNCE(), 0.2), KeyQueue(width=8, size=256)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    course = []
    for step in range(60):
        index = torch.randperm(len(digits), generator=torch.Generator().manual_seed(step))[:64]
        query, key = (
            nn.functional.normalize(network(view), dim=-1) for view in views(digits[index], index, step, seed=0)
        )
        offered = queue.negatives(query, index)
        output = loss(queue_pairs(query, key, offered.keys, index, offered.index))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        queue.store(key.detach(), index)
        course.append(output.loss.item())
    assert queue.filled == 256
    full = course[4:]  # the queue holds keys alone from here on
    assert sum(full[-10:]) / 10 < sum(full[:10]) / 10 - 0.3


def test_losses_and_pairs_load_no_trainer_and_no_logger() -> None:
    program = (
        "import sys, contrast.losses, contrast.pairs, contrast.banks\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    root = Path(__file__).parents[2]
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "'torch'" in loaded
    for name in ("lightning", "jsonargparse", "wandb", "torchvision", "faiss", "sklearn", "altair"):
        assert f"'{name}'" not in loaded
