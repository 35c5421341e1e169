"""NNCLR: contrastive learning with the nearest neighbour in a support queue as the positive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.banks import KeyQueue
from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, InfoNCE, Loss
from contrast.methods.base import (
    BankFactory,
    ContrastiveMethod,
    HeadFactory,
    OptimizerFactory,
    Rates,
    RateScaling,
    build_predictor,
    unit_rows,
)
from contrast.models import Backbone, MLPHead
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import UNKNOWN, Pairs, cross_pairs

__all__ = ["NNCLR"]


class NNCLR(ContrastiveMethod):
    """NNCLR: nearest-neighbour contrastive learning of visual representations.

    ``L = ½ [CE(nn(z1) · p2ᵀ/τ) + CE(nn(z2) · p1ᵀ/τ)]``, cross-entropy over the N predictions of a batch

    z are embeddings and p = predictor(z), all of unit length. nn(z) is the nearest row of the support queue, without
    gradient. It is looked up before this step's embeddings of the first view enter the queue. While the queue is empty,
    nn(z) is z. As in the paper, the nearest row may come from the query's own sample in an earlier epoch. The negatives
    are the other samples' predictions, of all processes. Any objective can be used; with DCL it is NNCLR + DCL of the
    DCL paper. An omitted argument takes the paper's value.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, three layers of 2,048, 2,048 and 256 with norms.
        predictor: from embeddings to predictions. If omitted, two layers of 4,096 and 256.
        loss: the loss. If omitted, InfoNCE at temperature 0.1.
        bank: the support queue. If omitted, 98,304 rows.
        optimizer: the optimiser. If omitted, LARS at 0.3 with weight decay 1e-6.
        schedule: the learning-rate schedule. If omitted, ten epochs of warm-up, then cosine.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        nearest: number of nearest rows whose mean is the positive. 1 is the paper.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.

    Raises:
        InputError: for nearest below 1; for several heads; for a predictor of another width; for a loss that stops the
            gradient at positives.

    Source: Dwibedi et al., ICCV 2021, arXiv 2104.14548, eqs. 3 and 4 and the pseudo-code. Some published
    implementations take the 2N - 1 rows of both views as candidates, which is another loss. There is no official code,
    and it is not verified whether the last layers have biases.
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        predictor: HeadFactory | None = None,
        loss: Loss | None = None,
        bank: BankFactory | None = None,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
        nearest: int = 1,
        rates: Rates | None = None,
    ) -> None:
        if nearest < 1:
            raise InputError(f"NNCLR's nearest {nearest} gives a query no positive: give at least 1")
        three = partial(MLPHead, hidden_width=2048, output_width=256, layers=3, batch_norm=True, final_batch_norm=True)
        super().__init__(
            backbone,
            (head or three)(backbone.width),
            loss or ContrastiveLoss(InfoNCE(), temperature=0.1),
            optimizer or partial(LARS, lr=0.3, momentum=0.9, weight_decay=1e-6),
            schedule or WarmupCosine(warmup_epochs=10),
            rate_scaling,
            rate_reference,
            rates,
        )
        reason = "it stops the gradient at positives, the one way by which NNCLR learns: use --model SimSiam"
        if not self.loss.gradient_at_positive:
            raise InputError(f"NNCLR cannot host {type(self.loss).__name__}: {reason}")
        width = self.head.output_width
        two = partial(MLPHead, hidden_width=4096, output_width=width, batch_norm=True)
        self.predictor = build_predictor("NNCLR", self.head, predictor or two)
        self.bank, self.nearest = (bank or partial(KeyQueue, size=98304))(width), nearest

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        projected = [self.head(self.backbone(view)) for view in batch.inputs]
        z1, z2 = (unit_rows(rows, self.loss) for rows in projected)
        p1, p2 = (unit_rows(self.predictor(rows), self.loss) for rows in projected)
        near1, near2 = (self.neighbours(rows) for rows in (z1, z2))
        self.remember(self.bank, z1, batch.index)
        return [cross_pairs(near1, p2, batch.index, view=0), cross_pairs(near2, p1, batch.index, view=1)]

    @torch.no_grad()
    def neighbours(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Nearest row of the support queue for each embedding, or the mean of the nearest rows.

        The embedding itself is returned while the queue is empty.
        """
        nowhere = torch.full((len(rows),), UNKNOWN, device=rows.device)  # the paper does not exclude own samples
        _, row = self.bank.neighbours(rows, nowhere, self.nearest)
        found = row >= 0
        if not found.any():
            return rows.detach()
        keys = self.bank.keys_at(row).to(rows.dtype) * found[..., None]
        return keys[:, 0] if self.nearest == 1 else unit_rows(keys.sum(1) / found.sum(1, keepdim=True), self.loss)
