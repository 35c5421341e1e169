"""SimCLR: two views of each image, with all other rows of the batch as negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.losses import ContrastiveLoss, InfoNCE, Loss
from contrast.methods.base import BankFactory, ContrastiveMethod, HeadFactory, OptimizerFactory, Rates, RateScaling
from contrast.models import Backbone, SimCLRHead
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import Pairs, in_batch_pairs

__all__ = ["SimCLR"]


class SimCLR(ContrastiveMethod):
    """SimCLR: contrastive learning with in-batch negatives.

    ``L = NT-Xent`` over the 2N rows of two views. The negatives are the other rows of the batch, of all processes.

    With a memory bank, which is not in the paper, each query also gets the bank's negatives. The bank stores the
    embeddings of the first views. An omitted argument takes the paper's value.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, the paper's two layers, from the backbone's width to 128.
        loss: the loss. If omitted, InfoNCE at temperature 0.5, the paper's best on CIFAR-10.
        optimizer: the optimiser. If omitted, LARS at 0.3 with weight decay 1e-6.
        schedule: the learning-rate schedule. If omitted, ten epochs of warm-up, then cosine.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        bank: memory bank of past embeddings as additional negatives, one bank per head. If omitted, there is none.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.
        joint_batch_norm: whether both views are encoded as one batch, so that batch norm takes the statistics of both
            together, as in the authors' code. If False, each view is encoded and normalised separately.

    Source: Chen et al., ICML 2020, arXiv 2002.05709, algorithm 1. The authors' code (google-research/simclr 383d4143)
    minimises twice this loss. With LARS this doubles the rate of norms and biases only: use
    ``rates={"norms_and_biases": GroupRate(2.0)}`` for the same.
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        loss: Loss | None = None,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
        bank: BankFactory | None = None,
        rates: Rates | None = None,
        joint_batch_norm: bool = False,
    ) -> None:
        super().__init__(
            backbone,
            (head or SimCLRHead)(backbone.width),
            loss or ContrastiveLoss(InfoNCE(), temperature=0.5),
            optimizer or partial(LARS, lr=0.3, momentum=0.9, weight_decay=1e-6),
            schedule or WarmupCosine(warmup_epochs=10),
            rate_scaling,
            rate_reference,
            rates,
        )
        banks = 0 if bank is None else self.head.head_count or 1
        self.joint_batch_norm = joint_batch_norm
        self.memory = nn.ModuleList(bank(self.head.output_width) for _ in range(banks) if bank is not None)

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        if self.joint_batch_norm:
            first, second = self.embed(torch.cat(list(batch.inputs))).chunk(2, dim=-2)
        else:
            first, second = (self.embed(view) for view in batch.inputs)
        pairs = in_batch_pairs(first, second, batch.index)
        if not self.memory:
            return [pairs]
        queries, keys = (rows if self.head.head_count else rows[None] for rows in (pairs.query.detach(), first))
        banks = self.banks()
        offered = [self.meet(bank, rows, pairs.index) for bank, rows in zip(banks, queries, strict=True)]
        for bank, rows in zip(banks, keys, strict=True):
            self.remember(bank, rows, batch.index)
        return [pairs.with_bank(offered)]
