"""SimSiam: each view's prediction towards the other view's embedding, which gets no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from contrast.data.batch import Batch
from contrast.losses import LOOK, ContrastiveLoss, Loss, SimSiamLoss, SupCon
from contrast.methods.bank_pairs import negative_free_pairs
from contrast.methods.base import (
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
from contrast.optim import Schedule, WarmupCosine
from contrast.pairs import Pairs

__all__ = ["SimSiam"]


class SimSiam(ContrastiveMethod):
    """SimSiam: ``L = ½ D(p1, z2) + ½ D(p2, z1)``, ``D(p, z) = -p·z`` of unit rows, z without gradient.

    p = predictor(z). A predictor of several heads (`MultiHead`) makes several predictions of the one z: with an
    `AdaptiveTemperature` in the loss that is AMCL's SimSiam (arXiv 2310.05615, eq. 2.2).

    Source: Chen and He, CVPR 2021, arXiv 2011.10566, algorithm 1. The authors' command keeps the predictor's rate
    constant (``--fix-pred-lr``, facebookresearch/simsiam a7bc177): ``rates={"predictor": GroupRate(scheduled=False)}``
    here. What is left out takes the paper's value.

    Args:
        backbone: images to features.
        head: the projection head; three layers of 2,048 with norms, the last without scale, if left out.
        predictor: from embeddings to predictions; two layers, 512 wide in between, if left out.
        loss: SimSiamLoss if left out.
        optimizer: SGD at 0.05 with momentum 0.9 and weight decay 1e-4 if left out.
        schedule: cosine without warm-up if left out.
        rate_scaling: of the rate with the global batch size; linear in the paper.
        rate_reference: the batch size that the rate is meant for.
        rates: rates of groups of parameters relative to the optimiser's; one rate for all if left out.

    Raises:
        InputError: for a projection head of several heads, a predictor of another width, and a loss of negatives.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        predictor: HeadFactory | None = None,
        loss: Loss | None = None,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
        rates: Rates | None = None,
    ) -> None:
        wide = partial(MLPHead, hidden_width=2048, output_width=2048, layers=3, batch_norm=True)
        three = partial(wide, final_batch_norm=True, final_scale=False)
        super().__init__(
            backbone,
            (head or three)(backbone.width),
            loss or SimSiamLoss(),
            optimizer or partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4),
            schedule or WarmupCosine(warmup_epochs=0),
            rate_scaling,
            rate_reference,
            rates,
        )
        reason = "SimSiam has no negatives: use --model SimCLR or MoCo, or a loss such as SimSiamLoss"
        refuse_losses("SimSiam", self.loss, (ContrastiveLoss, SupCon, LOOK), reason)
        bottleneck = partial(MLPHead, hidden_width=512, output_width=self.head.output_width, batch_norm=True)
        self.predictor = build_predictor("SimSiam", self.head, predictor or bottleneck, several=True)

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        projected = [self.head(self.backbone(view)) for view in batch.inputs]
        p1, p2 = (unit_rows(self.predictor(rows), self.loss) for rows in projected)
        z1, z2 = (unit_rows(rows.detach(), self.loss) for rows in projected)
        return [negative_free_pairs(p1, z2, batch.index, view=0), negative_free_pairs(p2, z1, batch.index, view=1)]
