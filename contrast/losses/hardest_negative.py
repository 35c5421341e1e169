"""The margin to the hardest negative: AMCL's objective."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.arguments import checked
from contrast.losses.logits import NegativeLogits, PositiveLogits
from contrast.losses.objectives import Objective, require_negatives

__all__ = ["HardestNegative"]


class HardestNegative(Objective):
    """``l_{j*} - l⁺`` with ``j* = argmax_j s_j``: hardest by the plain score, then at its own temperature.

    With an `AdaptiveTemperature` this is AMCL's loss: ``-s⁺/τ⁺ + β Ω(τ⁺) + s*/τ* - β Ω(τ*)``. It is not bounded below:
    where s* is below β the loss falls as τ* goes to 0, so τ's lower bound is part of the method. InfoNCE over the same
    logits is bounded, and what we take for AMCL unless told otherwise.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615, eq. 2.1; with the positive among the candidates, eq. 2.4.

    Args:
        positive_competes: eq. 2.4; a query whose positive is hardest has loss 0.

    Example:
        >>> from contrast import in_batch_pairs, losses
        >>> z = torch.eye(4)
        >>> losses.ContrastiveLoss(HardestNegative(), 0.5)(in_batch_pairs(z, z, torch.arange(4))).loss
        tensor(-2.)
    """

    @checked
    def __init__(self, positive_competes: bool = False) -> None:
        super().__init__()
        self.positive_competes = positive_competes

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        score, logit = negatives.hardest()
        if self.positive_competes:
            logit = torch.where(positive.score > score, positive.logit, logit)
        return require_negatives("HardestNegative", logit) - positive.logit

    def extra_repr(self) -> str:
        return f"positive_competes={self.positive_competes}"
