"""MoCo v3: each view's prediction against the other view's keys of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from contrast.data.batch import Batch
from contrast.losses import ContrastiveLoss, InfoNCE, Loss
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
from contrast.pairs import Pairs, cross_pairs

__all__ = ["MoCoV3"]


class MoCoV3(ContrastiveMethod):
    """MoCo v3: ``L = ½ [CE(q1 · k2ᵀ/τ) + CE(q2 · k1ᵀ/τ)]`` over the N keys of a batch, without a queue.

    q = predictor(head(backbone)), k from a slowly moving copy of backbone and head without gradient, all unit rows.
    The keys are those of all processes. The copy's momentum rises from `momentum` to 1 with the cosine of the run.

    Source: Chen et al., ICCV 2021, arXiv 2104.02057, algorithm 1. The paper sums the two directions and multiplies with
    2τ: 4τ times our mean. LARS cancels a constant factor of the loss for weights, not for norms and biases, which take
    a plain step: the authors' rate for those is ``rates={"norms_and_biases": GroupRate(4 * τ)}`` here. AdamW cancels
    the factor for all, SGD for none. What is left out takes the values of the authors' code (facebookresearch/moco-v3
    c349e6e) for a ResNet-50 and 100 epochs, but for these rates; for a ViT the paper has τ 0.2, three layers in the
    head, AdamW and no LARS.

    Args:
        backbone: images to features.
        head: the projection head; two layers of 4,096 and 256 with norms, the last without scale, if left out.
        predictor: from embeddings to queries; two layers of 4,096 and 256 if left out.
        loss: InfoNCE at temperature 1 if left out.
        momentum: the share of itself that the key encoder keeps at the first step.
        optimizer: LARS at 0.6 with weight decay 1e-6 if left out.
        schedule: ten epochs of warm-up, then cosine, if left out.
        rate_scaling: of the rate with the global batch size; linear in the paper.
        rate_reference: the batch size that the rate is meant for.
        rates: rates of groups of parameters relative to the optimiser's; one rate for all if left out.

    Raises:
        InputError: where momentum is outside [0, 1]; for several heads and a predictor of another width.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        predictor: HeadFactory | None = None,
        loss: Loss | None = None,
        momentum: float = 0.99,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
        rates: Rates | None = None,
    ) -> None:
        two = partial(MLPHead, hidden_width=4096, batch_norm=True, bias=False)
        normed = partial(two, output_width=256, final_batch_norm=True, final_scale=False)
        super().__init__(
            backbone,
            (head or normed)(backbone.width),
            loss or ContrastiveLoss(InfoNCE(), temperature=1.0),
            optimizer or partial(LARS, lr=0.6, momentum=0.9, weight_decay=1e-6),
            schedule or WarmupCosine(warmup_epochs=10),
            rate_scaling,
            rate_reference,
            rates,
        )
        self.momentum = check_momentum("MoCoV3", momentum)
        self.predictor = build_predictor(
            "MoCoV3", self.head, predictor or partial(two, output_width=self.head.output_width)
        )
        self.key_encoder = momentum_copy(nn.Sequential(self.backbone, self.head))

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        encoder = nn.Sequential(self.backbone, self.head)
        q1, q2 = (unit_rows(self.predictor(encoder(view)), self.loss) for view in batch.inputs)
        update_momentum(encoder, self.key_encoder, rising_momentum(self.momentum, self.progress()))
        with torch.no_grad():
            k1, k2 = (unit_rows(self.key_encoder(view), self.loss) for view in batch.inputs)
        return [cross_pairs(q1, k2, batch.index, view=0), cross_pairs(q2, k1, batch.index, view=1)]
