"""BYOL: regression of a momentum target's embedding of the other view, without negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import BYOLLoss, Loss
from contrast.methods.base import (
    ContrastiveMethod,
    HeadFactory,
    OptimizerFactory,
    Rates,
    RateScaling,
    build_predictor,
    check_momentum,
    rising_momentum,
    unit_rows,
)
from contrast.models import Backbone, MLPHead, momentum_copy, update_momentum
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import Pairs, negative_free_pairs

__all__ = ["BYOL"]


class BYOL(ContrastiveMethod):
    """BYOL: bootstrap your own latent, with a momentum target and without negatives.

    ``L = ‖q1 - z2‖² + ‖q2 - z1‖²`` of unit rows, mean over the batch, with z without gradient

    The prediction is q = predictor(head(backbone)). z comes from the target, a momentum copy of backbone and head. The
    target's momentum rises from `momentum` to 1 by a cosine over the run. The target is updated at the start of a step,
    from the network that the previous step left. This order differs from the paper's only in checkpoints, in which the
    target is one update behind. An omitted argument takes the paper's value for 1,000 epochs.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, two layers of 4,096 and 256 with a norm between them.
        predictor: from embeddings to predictions. If omitted, the same two layers.
        loss: the loss. If omitted, BYOLLoss.
        momentum: share of itself that the target keeps at the first step, within [0, 1].
        optimizer: the optimiser. If omitted, LARS at 0.2 with weight decay 1.5e-6.
        schedule: the learning-rate schedule. If omitted, ten epochs of warm-up, then cosine.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.
        final_bias: whether the default head and predictor end with a bias, as in runs of earlier versions.

    Raises:
        InputError: if momentum is outside [0, 1]; for several heads; for a predictor of another width; for a loss with
            negatives.

    Source: Grill et al., NeurIPS 2020, arXiv 2006.07733, algorithm 1. The last layers of head and predictor have no
    bias, as in the authors' code (deepmind-research f5de0ed, byol/utils/networks.py:44).
    """

    @checked
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
        if self.loss.uses_negatives:
            raise InputError(f"BYOL cannot host {type(self.loss).__name__}: {reason}")
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
