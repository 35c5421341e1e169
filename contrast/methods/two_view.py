"""Two views through one encoder: the method for Barlow Twins, VICReg and other joint-embedding losses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.losses import BarlowTwins, Loss
from contrast.methods.base import ContrastiveMethod, HeadFactory, OptimizerFactory, Rates, RateScaling
from contrast.models import Backbone, MLPHead
from contrast.optim import LARS, Schedule, WarmupCosine
from contrast.pairs import Pairs, in_batch_pairs, negative_free_pairs

__all__ = ["TwoView"]


class TwoView(ContrastiveMethod):
    """Joint embedding of two views with one encoder, for Barlow Twins, VICReg or any other loss.

    ``L = loss(z1, z2)``, with raw or unit rows as the loss asks

    A loss of one direction (`BarlowTwins`, `VICReg`) gets the first view as queries, the second view as positives, and
    no negatives. Any other loss gets both directions and the batch's negatives, as in `SimCLR`. An omitted argument
    takes the value of the Barlow Twins paper.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, three layers of 8,192 with norms between them.
        loss: the loss. If omitted, BarlowTwins.
        optimizer: the optimiser. If omitted, LARS at 0.2 with weight decay 1e-6, as in the authors' code; the paper
            uses 1.5e-6.
        schedule: the learning-rate schedule. If omitted, ten epochs of warm-up, then cosine to a thousandth.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.

    Source: Barlow Twins, Zbontar et al., ICML 2021, arXiv 2103.03230, section 2.2. VICReg, Bardes et al., ICLR 2022,
    arXiv 2105.04906, has the same head, optimiser and rate. The authors of both papers end the cosine at a thousandth
    of the rate. Barlow Twins has a separate rate of 0.0048 for norms and biases (facebookresearch/barlowtwins 8e8d284,
    main.py:33-36): use ``rates={"norms_and_biases": GroupRate(0.024)}`` for the same.
    """

    one_direction = True

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
        rates: Rates | None = None,
    ) -> None:
        wide = partial(MLPHead, hidden_width=8192, output_width=8192, layers=3, batch_norm=True, bias=False)
        super().__init__(
            backbone,
            (head or wide)(backbone.width),
            loss or BarlowTwins(),
            optimizer or partial(LARS, lr=0.2, momentum=0.9, weight_decay=1e-6),
            schedule or WarmupCosine(warmup_epochs=10, final=0.001),
            rate_scaling,
            rate_reference,
            rates,
        )

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        first, second = (self.embed(view) for view in batch.inputs)
        if self.loss.both_directions:
            return [in_batch_pairs(first, second, batch.index)]
        return [negative_free_pairs(first, second, batch.index)]
