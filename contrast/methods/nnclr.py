"""NNCLR: the positive is the nearest neighbour in a support set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.banks import KeyQueue
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import BYOLLoss, ContrastiveLoss, InfoNCE, Loss, SimSiamLoss
from contrast.methods.base import (
    BankFactory,
    ContrastiveMethod,
    HeadFactory,
    OptimizerFactory,
    Rates,
    RateScaling,
    build_predictor,
    refuse_losses,
    unit_rows,
)
from contrast.models import Backbone, MLPHead
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import UNKNOWN, Pairs, cross_pairs

__all__ = ["NNCLR"]


class NNCLR(ContrastiveMethod):
    """NNCLR: ``L = ½ [CE(nn(z1) · p2ᵀ/τ) + CE(nn(z2) · p1ᵀ/τ)]`` over the N predictions of a batch.

    z are embeddings, p = predictor(z), all of unit length; nn(z) is the support queue's nearest row, without gradient,
    looked up before this step's embeddings of the first view enter the queue. While the queue is empty nn(z) is z.
    Negatives are the other samples' predictions, of all processes. Any objective fits: with DCL it is the paper of
    DCL's NNCLR + DCL. As in the paper, the nearest row may be of the query's own sample, of an earlier epoch.

    Source: Dwibedi et al., ICCV 2021, arXiv 2104.14548, eqs. 3 and 4 and the pseudo-code; there are published
    implementations that take both views' 2N - 1 rows as candidates, which is another loss. What is left out takes the
    paper's value; there is no official code, and whether the last layers have biases is not verified.

    Args:
        backbone: images to features.
        head: the projection head; three layers of 2,048, 2,048 and 256 with norms if left out.
        predictor: from embeddings to predictions; two layers of 4,096 and 256 if left out.
        loss: InfoNCE at temperature 0.1 if left out.
        bank: the support queue; 98,304 rows if left out.
        optimizer: LARS at 0.3 with weight decay 1e-6 if left out.
        schedule: ten epochs of warm-up, then cosine, if left out.
        rate_scaling: of the rate with the global batch size; linear in the paper.
        rate_reference: the batch size that the rate is meant for.
        nearest: how many nearest rows the positive is the mean of; 1 is the paper.
        rates: rates of groups of parameters relative to the optimiser's; one rate for all if left out.

    Raises:
        InputError: for nearest below 1, several heads, a predictor of another width, and a loss that stops the
            gradient at positives.
    """

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
            raise InputError(f"NNCLR's nearest {nearest} leaves a query no positive: give at least 1")
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
        refuse_losses("NNCLR", self.loss, (SimSiamLoss, BYOLLoss), reason)
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
        """The support row nearest to each embedding, or the mean of the nearest; itself while there is none."""
        nowhere = torch.full((len(rows),), UNKNOWN, device=rows.device)  # the paper leaves no own sample out
        _, row = self.bank.neighbours(rows, nowhere, self.nearest)
        found = row >= 0
        if not found.any():
            return rows.detach()
        keys = self.bank.keys_at(row).to(rows.dtype) * found[..., None]
        return keys[:, 0] if self.nearest == 1 else unit_rows(keys.sum(1) / found.sum(1, keepdim=True), self.loss)
