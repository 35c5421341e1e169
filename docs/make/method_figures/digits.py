"""Embeddings of scikit-learn's digits after a short pretraining, for figures that want real scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.data import Digits, SimCLRViews
from contrast.losses import ContrastiveLoss, InfoNCE
from contrast.models import ConvNet, Head, SimCLRHead
from contrast.optim import parameter_groups

WIDTH, BATCH, SEED = 64, 256, 0
Look = Callable[[int, Pairs], None]
StepLoss = Callable[[int, int, tuple[Tensor, Tensor], Tensor], Tensor]


class Embedded(NamedTuple):
    """Unit rows of two views, and of which samples and digits they are."""

    first: Tensor
    second: Tensor
    sample: Tensor
    labels: Tensor


def views() -> SimCLRViews:
    return SimCLRViews(size=8, crop_scale=(0.3, 1.0), flip=0.0, jitter_strength=0.5, blur=0.0)


def images() -> tuple[Tensor, Tensor]:
    digits = Digits(train=True)
    return torch.stack([image for image, _ in digits]), digits.labels


def head(features: int) -> Head:
    return SimCLRHead(features, output_width=WIDTH)


def encoder(make_head: Callable[[int], Head] = head) -> nn.Sequential:
    torch.manual_seed(SEED)
    backbone = ConvNet(channels=1, image_size=8, widths=(32, 64, 128))
    return nn.Sequential(backbone, make_head(backbone.width))


def fit(trained: nn.Module, loss_of: StepLoss, epochs: int, recipe: SimCLRViews | None = None) -> None:
    """SGD over shuffled batches of views, as in the README; `loss_of` gets step, epoch, views and samples."""
    pixels, _ = images()
    make_views = recipe or views()
    optimizer = torch.optim.SGD(parameter_groups(trained), lr=0.1, momentum=0.9, weight_decay=5e-4)
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(epoch))
        for index in order.split(BATCH):
            first, second = make_views(pixels[index], index, epoch=epoch, seed=SEED)
            optimizer.zero_grad()
            loss_of(step, epoch, (first, second), index).backward()
            optimizer.step()
            step += 1


def pretrain(
    net: nn.Module, loss: ContrastiveLoss, epochs: int, recipe: SimCLRViews | None = None, look: Look | None = None
) -> None:
    """SimCLR with this loss; `look` sees each step's pairs before the step is taken."""
    begun = -1

    def loss_of(step: int, epoch: int, both: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
        nonlocal begun
        if epoch > begun:
            loss.begin_epoch(epoch)
            begun = epoch
        loss.begin_step(epoch, step)
        first, second = (nn.functional.normalize(net(view), dim=-1) for view in both)
        pairs = in_batch_pairs(first, second, index)
        if look is not None:
            look(step, pairs)
        return loss(pairs).loss

    fit(nn.ModuleList([net, loss]), loss_of, epochs, recipe)


@torch.no_grad()
def embed(net: nn.Module) -> Embedded:
    """Two fresh views of all digits, with batch norm as in evaluation."""
    pixels, labels = images()
    index = torch.arange(len(pixels))
    net.eval()
    first, second = (
        nn.functional.normalize(net(view), dim=-1) for view in views()(pixels, index, epoch=1000, seed=SEED)
    )
    return Embedded(first, second, index, labels)


@cache
def embedded(epochs: int) -> Embedded:
    """After so many epochs of SimCLR at τ = 0.2."""
    net = encoder()
    pretrain(net, ContrastiveLoss(InfoNCE(), 0.2), epochs)
    return embed(net)


def against_queue(rows: Embedded, queries: int, keys: int) -> Pairs:
    """The first samples as queries, the next ones as the queue."""
    return queue_pairs(
        rows.first[:queries],
        rows.second[:queries],
        rows.second[queries : queries + keys],
        rows.sample[:queries],
        rows.sample[queries : queries + keys],
    )
