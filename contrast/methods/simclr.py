"""SimCLR: two views of a batch, every other row a negative."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from contrast.data.batch import Batch
from contrast.losses import ContrastiveLoss, InfoNCE, Loss
from contrast.methods.contrastive_method import ContrastiveMethod, HeadFactory, OptimizerFactory, RateScaling
from contrast.models import Backbone, SimCLRHead
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import Pairs, in_batch_pairs

__all__ = ["SimCLR"]


class SimCLR(ContrastiveMethod):
    """SimCLR: ``L = NT-Xent`` over the 2N rows of two views; negatives are the batch's, of all processes.

    Source: Chen et al., ICML 2020, arXiv 2002.05709, algorithm 1. What is left out takes the paper's value.

    Args:
        backbone: images to features.
        head: the projection head; the paper's two layers of the backbone's width to 128 if left out.
        loss: InfoNCE at temperature 0.5 if left out, the paper's best on CIFAR-10.
        optimizer: LARS at 0.3 with weight decay 1e-6 if left out.
        schedule: ten epochs of warm-up, then cosine, if left out.
        rate_scaling: of the rate with the global batch size; linear in the paper.
        rate_reference: the batch size that the rate is meant for.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        loss: Loss | None = None,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
    ) -> None:
        super().__init__(
            backbone,
            (head or SimCLRHead)(backbone.width),
            loss or ContrastiveLoss(InfoNCE(), temperature=0.5),
            optimizer or partial(LARS, lr=0.3, momentum=0.9, weight_decay=1e-6),
            schedule or WarmupCosine(warmup_epochs=10),
            rate_scaling,
            rate_reference,
        )

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        first, second = (self.embed(view) for view in batch.inputs)
        return [in_batch_pairs(first, second, batch.index)]
