"""Losses without negatives: SimSiam and BYOL."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.checks import checked
from contrast.losses.base import Loss, LossOutput, PairWeighting, at_least_float32, require_pairs, weighted_mean
from contrast.losses.temperature import Temperature, as_temperature
from contrast.pairs import Pairs

__all__ = ["BYOLLoss", "SimSiamLoss"]


class SimSiamLoss(Loss):
    """SimSiam loss: negative cosine similarity of each query and its positive.

    ``-s`` with the score s of the positive; with a temperature ``-2 · logit(s/2)``

    The mean over the 2N queries of both directions is ``½ D(p1, z2) + ½ D(p2, z1)``. With an `AdaptiveTemperature`, the
    loss of a query is ``-s/τ + 2β Ω(τ)``. The same mean is then AMCL's eq. 2.2 (scores halved, Ω not), summed over
    heads. The loss always stops the gradient at the positive, even if the method has not. It ignores negatives.

    Args:
        temperature: τ as a number, or a `Temperature`. 1 is SimSiam.
        weighting: computes one weight per query. None gives every query the weight 1.

    Source: Chen and He, CVPR 2021, arXiv 2011.10566, eq. 4; AMCL is Wang et al., ECCV 2024, arXiv 2310.05615.

    Example:
        >>> from contrast import in_batch_pairs
        >>> SimSiamLoss()(in_batch_pairs(torch.eye(3), torch.eye(3), torch.arange(3))).loss
        tensor(-1.)
    """

    gradient_at_positive = False

    @checked
    def __init__(self, temperature: float | Temperature = 1.0, weighting: PairWeighting | None = None) -> None:
        super().__init__()
        self.temperature = as_temperature(temperature)
        self.weighting = weighting

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            return weighted_mean([self._losses(each) for each in pairs], pairs, self.weighting)

    def _losses(self, pairs: Pairs) -> Tensor:
        query, positive = at_least_float32(pairs.query), at_least_float32(pairs.positive).detach()
        logit = self.temperature((query * positive).sum(dim=-1) / 2, query, positive)
        return _over_heads(-2 * logit)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature.extra_repr()}"


class BYOLLoss(Loss):
    """BYOL loss: squared distance of each query to its positive, for unit rows.

    ``2 · ‖q - z‖² = 2 (2 - 2s)`` for each query

    The mean over the 2N queries is the sum of the means of the two directions, as in the paper. The loss always stops
    the gradient at the positive, even if the method has not. It ignores negatives. The losses of several heads are
    summed.

    Args:
        weighting: computes one weight per query. None gives every query the weight 1.

    Source: Grill et al., NeurIPS 2020, arXiv 2006.07733, eq. 2 and the symmetric sum below it.

    Example:
        >>> from contrast import in_batch_pairs
        >>> BYOLLoss()(in_batch_pairs(torch.eye(2), torch.eye(2).flip(0), torch.arange(2))).loss
        tensor(4.)
    """

    gradient_at_positive = False

    @checked
    def __init__(self, weighting: PairWeighting | None = None) -> None:
        super().__init__()
        self.weighting = weighting

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            return weighted_mean([self._losses(each) for each in pairs], pairs, self.weighting)

    def _losses(self, pairs: Pairs) -> Tensor:
        score = (at_least_float32(pairs.query) * at_least_float32(pairs.positive).detach()).sum(dim=-1)
        return _over_heads(2 * (2 - 2 * score))


def _over_heads(losses: Float[Tensor, "*h b"]) -> Float[Tensor, " b"]:
    return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)
