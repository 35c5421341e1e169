"""BYOL: each view's prediction towards what a slowly moving copy makes of the other view."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from contrast.data.batch import Batch
from contrast.losses import LOOK, BYOLLoss, ContrastiveLoss, Loss, SupCon
from contrast.methods.bank_pairs import negative_free_pairs
from contrast.methods.base import (
    ContrastiveMethod,
    HeadFactory,
    OptimizerFactory,
    Rates,
    RateScaling,
    build_predictor,
    check_momentum,
    refuse_losses,
    rising_momentum,
    unit_rows,
)
from contrast.models import Backbone, MLPHead, momentum_copy, update_momentum
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import Pairs

__all__ = ["BYOL"]


class BYOL(ContrastiveMethod):
    """BYOL: ``L = ‖q1 - z2‖² + ‖q2 - z1‖²`` of unit rows, mean over the batch, z without gradient.

    q = predictor(head(backbone)); z is of the target, a slowly moving copy of backbone and head whose momentum rises
    from `momentum` to 1 with the cosine of the run. The target is moved at the beginning of a step, by what the last
    step made of the network: the order differs from the paper's in the checkpoint alone, where it is one move behind.

    Source: Grill et al., NeurIPS 2020, arXiv 2006.07733, algorithm 1. What is left out takes the paper's value, of the
    1,000 epochs. The last layers of head and predictor have no bias, as in the authors' code (deepmind-research
    f5de0ed, byol/utils/networks.py:44).

    Args:
        backbone: images to features.
        head: the projection head; two layers of 4,096 and 256, a norm between them, if left out.
        predictor: from embeddings to predictions; the same two layers if left out.
        loss: BYOLLoss if left out.
        momentum: the share of itself that the target keeps at the first step.
        optimizer: LARS at 0.2 with weight decay 1.5e-6 if left out.
        schedule: ten epochs of warm-up, then cosine, if left out.
        rate_scaling: of the rate with the global batch size; linear in the paper.
        rate_reference: the batch size that the rate is meant for.
        rates: rates of groups of parameters relative to the optimiser's; one rate for all if left out.
        final_bias: whether a head and a predictor that are left out end with a bias; runs of earlier versions have one.

    Raises:
        InputError: where momentum is outside [0, 1]; for several heads, a predictor of another width, and a loss of
            negatives.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        predictor: HeadFactory | None = None,
        loss: Loss | None = None,
        momentum: float = 0.996,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
        rates: Rates | None = None,
        final_bias: bool = False,
    ) -> None:
        two = partial(MLPHead, hidden_width=4096, batch_norm=True, bias=final_bias)
        super().__init__(
            backbone,
            (head or partial(two, output_width=256))(backbone.width),
            loss or BYOLLoss(),
            optimizer or partial(LARS, lr=0.2, momentum=0.9, weight_decay=1.5e-6),
            schedule or WarmupCosine(warmup_epochs=10),
            rate_scaling,
            rate_reference,
            rates,
        )
        reason = "BYOL has no negatives: use --model MoCoV3, or a loss such as BYOLLoss"
        refuse_losses("BYOL", self.loss, (ContrastiveLoss, SupCon, LOOK), reason)
        self.momentum = check_momentum("BYOL", momentum)
        like_head = partial(two, output_width=self.head.output_width)
        self.predictor = build_predictor("BYOL", self.head, predictor or like_head)
        self.target = momentum_copy(nn.Sequential(self.backbone, self.head))

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        online = nn.Sequential(self.backbone, self.head)
        q1, q2 = (unit_rows(self.predictor(online(view)), self.loss) for view in batch.inputs)
        update_momentum(online, self.target, rising_momentum(self.momentum, self.progress()))
        with torch.no_grad():
            z1, z2 = (unit_rows(self.target(view), self.loss) for view in batch.inputs)
        return [negative_free_pairs(q1, z2, batch.index, view=0), negative_free_pairs(q2, z1, batch.index, view=1)]
