"""SimSiam: similarity of each view's prediction with the other view's embedding, without negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import Loss, SimSiamLoss
from contrast.methods.base import (
    ContrastiveMethod,
    HeadFactory,
    OptimizerFactory,
    Rates,
    RateScaling,
    build_predictor,
    unit_rows,
)
from contrast.models import Backbone, MLPHead
from contrast.optim import Schedule, WarmupCosine
from contrast.pairs import Pairs, negative_free_pairs

__all__ = ["SimSiam"]


class SimSiam(ContrastiveMethod):
    """SimSiam: siamese learning without negatives, with a predictor and a stop-gradient.

    ``L = ½ D(p1, z2) + ½ D(p2, z1)``, ``D(p, z) = -p·z`` of unit rows, with z without gradient

    The prediction is p = predictor(z). A predictor with several heads (`MultiHead`) makes several predictions from the
    same z. With an `AdaptiveTemperature` in the loss, this is AMCL's SimSiam (arXiv 2310.05615, eq. 2.2). An omitted
    argument takes the paper's value.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, three layers of 2,048 with norms, the last norm without scale.
        predictor: from embeddings to predictions. If omitted, two layers with 512 hidden units.
        loss: the loss. If omitted, SimSiamLoss.
        optimizer: the optimiser. If omitted, SGD at 0.05 with momentum 0.9 and weight decay 1e-4.
        schedule: the learning-rate schedule. If omitted, cosine without warm-up.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.

    Raises:
        InputError: for a projection head with several heads; for a predictor of another width; for a loss with
            negatives.

    Source: Chen and He, CVPR 2021, arXiv 2011.10566, algorithm 1. The authors' command keeps the predictor's learning
    rate constant (``--fix-pred-lr``, facebookresearch/simsiam a7bc177): use
    ``rates={"predictor": GroupRate(scheduled=False)}`` for the same.
    """

    @checked
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
        if self.loss.uses_negatives:
            raise InputError(f"SimSiam cannot host {type(self.loss).__name__}: {reason}")
        bottleneck = partial(MLPHead, hidden_width=512, output_width=self.head.output_width, batch_norm=True)
        self.predictor = build_predictor("SimSiam", self.head, predictor or bottleneck, several=True)

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        projected = [self.head(self.backbone(view)) for view in batch.inputs]
        p1, p2 = (unit_rows(self.predictor(rows), self.loss) for rows in projected)
        z1, z2 = (unit_rows(rows.detach(), self.loss) for rows in projected)
        return [negative_free_pairs(p1, z2, batch.index, view=0), negative_free_pairs(p2, z1, batch.index, view=1)]
