"""The one formula that every method of the project changes a term of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn

from contrast.arguments import checked
from contrast.losses.logit_loss import LogitLoss
from contrast.losses.logits import NegativeLogits, PositiveLogits, positive_logits
from contrast.losses.loss import LossOutput, require_pairs, weighted_mean
from contrast.losses.objectives import Objective
from contrast.losses.pieces import PairTransform, PairWeighting, Piece
from contrast.losses.several_positives import mean_over_positives
from contrast.losses.temperature import FixedTemperature, Temperature, as_temperature
from contrast.losses.tiled import negative_logits
from contrast.pairs import Pairs

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(LogitLoss):
    """``L = mean_b weight_b · Σ_h objective(positive logit, negative logits)``, with
    ``logit = temperature(score(transform(pairs)))``.

    A query with further positives (`Pairs.extra_positives`) has the mean of the objective over all of them.

    Args:
        objective: from logits to one loss a query.
        temperature: τ as a number, or a `Temperature`.
        transforms: applied to the pairs in the order given.
        weighting: one weight a query; None weighs all alike.

    Example:
        >>> from contrast import in_batch_pairs
        >>> from contrast.losses import DCL
        >>> loss = ContrastiveLoss(DCL(), temperature=0.1)
        >>> z = torch.nn.functional.normalize(torch.randn(2, 8, 16), dim=-1)
        >>> loss(in_batch_pairs(z[0], z[1], torch.arange(8))).losses.shape
        torch.Size([16])
    """

    @checked
    def __init__(
        self,
        objective: Objective,
        temperature: float | Temperature = 0.1,
        transforms: Sequence[PairTransform] = (),
        weighting: PairWeighting | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.temperature = as_temperature(temperature)
        self.transforms = nn.ModuleList(transforms)
        self.weighting = weighting

    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        with torch.autocast(pairs.query.device.type, enabled=False):
            return positive_logits(pairs, self.temperature), negative_logits(pairs, self.temperature)

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        # All of it, not `logits` alone: transforms take scores too, and tiles are made when an objective asks for them.
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            transformed = tuple(self._transform(each) for each in pairs)
            return weighted_mean(
                [self.of_logits(each, *self.logits(each)) for each in transformed], transformed, self.weighting
            )

    def describe(self) -> str:
        temperature = self.temperature
        name = temperature.extra_repr() if isinstance(temperature, FixedTemperature) else temperature.describe()
        pieces = [*self.transforms, *([] if self.weighting is None else [self.weighting])]
        others = [piece.describe() for piece in pieces if isinstance(piece, Piece)]
        return ", ".join([self.objective.describe(), f"temperature {name}", *others])

    def _transform(self, pairs: Pairs) -> Pairs:
        for transform in self.transforms:
            pairs = transform(pairs)
        return pairs

    def of_logits(self, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> Float[torch.Tensor, " b"]:
        losses: torch.Tensor
        if pairs.extra_positives is None:
            losses = self.objective(positive, negatives)
        else:
            losses = mean_over_positives(self.objective, self.temperature, pairs, positive, negatives)
        return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)
