"""MoCo v3: momentum contrast without a queue, with the batch's keys of the other view as negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from contrast.checks import checked
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
    """MoCo v3: symmetric momentum contrast without a queue.

    ``L = ½ [CE(q1 · k2ᵀ/τ) + CE(q2 · k1ᵀ/τ)]``, cross-entropy over the N keys of a batch

    The query is q = predictor(head(backbone)). The key k comes from a momentum copy of backbone and head, without
    gradient. All are unit rows. The keys are gathered from all processes. The copy's momentum rises from `momentum` to
    1 by a cosine over the run. An omitted argument takes the value of the authors' code for a ResNet-50 and 100 epochs,
    except the rates of norms and biases (see Source). For a ViT, the paper uses τ = 0.2, three layers in the head,
    AdamW and no LARS.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, two layers of 4,096 and 256 with norms, the last norm without scale.
        predictor: from embeddings to queries. If omitted, two layers of 4,096 and 256.
        loss: the loss. If omitted, InfoNCE at temperature 1.
        momentum: share of itself that the key encoder keeps at the first step, within [0, 1].
        optimizer: the optimiser. If omitted, LARS at 0.6 with weight decay 1e-6.
        schedule: the learning-rate schedule. If omitted, ten epochs of warm-up, then cosine.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.

    Raises:
        InputError: if momentum is outside [0, 1]; for several heads; for a predictor of another width.

    Source: Chen et al., ICCV 2021, arXiv 2104.02057, algorithm 1; authors' code, facebookresearch/moco-v3 c349e6e. The
    paper sums the two directions and multiplies by 2τ, which gives 4τ times our mean. LARS cancels a constant factor of
    the loss for weights, but not for norms and biases, which take a plain step. Use
    ``rates={"norms_and_biases": GroupRate(4 * τ)}`` for the authors' rate of those. AdamW cancels the factor for all
    parameters, SGD for none.
    """

    @checked
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
