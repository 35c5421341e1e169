"""Objectives that correct the negatives for those that are of the query's own class."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.losses.logits import NegativeLogits, PositiveLogits
from contrast.losses.objectives import Objective, refuse_one_sample, softplus

__all__ = ["HCL", "Debiased"]


class Debiased(Objective):
    """Debiased contrastive loss: ``-log(e⁺ / (e⁺ + G))``, ``G = max((Σ_j e_j - N τ⁺ e⁺)/(1 - τ⁺), N e^{-1/τ})``.

    τ⁺ is the share of negatives that are of the query's own class; e = exp(logit), N how many negatives a query has,
    and -1/τ the logit of the score -1, below which no negative of unit rows lies. With τ⁺ = 0 it is InfoNCE.

    Source: Chuang et al., NeurIPS 2020, arXiv 2007.00224, eqs. 7 and 8; one positive, as in the experiments. After a
    transform that lets scores leave [-1, 1] the floor is no bound.

    Args:
        positive_share: τ⁺, in [0, 1); the authors take 0.1 for CIFAR-10.

    Raises:
        InputError: where positive_share is outside [0, 1).
    """

    @checked
    def __init__(self, positive_share: float = 0.1) -> None:
        super().__init__()
        self.positive_share = _share("Debiased", positive_share)

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        corrected = corrected_negatives(positive, negatives, self.positive_share, 0.0)
        return softplus(refuse_one_sample("Debiased", corrected) - positive.logit)

    def extra_repr(self) -> str:
        return f"positive_share={self.positive_share:g}"


class HCL(Objective):
    """Hard contrastive loss: `Debiased` with the negatives weighted by ``w_j = e_j^β / mean(e^β)``.

    ``-log(e⁺ / (e⁺ + G))`` with ``G = max((Σ_j w_j e_j - N τ⁺ e⁺)/(1 - τ⁺), N e^{-1/τ})``. Gradient flows through the
    weights, as in the authors' code. With β = 0 it is the debiased loss, with τ⁺ = 0 too InfoNCE.

    Source: Robinson et al., ICLR 2021, arXiv 2010.04592.

    Args:
        positive_share: τ⁺, in [0, 1).
        beta: β, how much harder negatives count; at least 0.

    Raises:
        InputError: where positive_share is outside [0, 1), or beta is negative or infinite.

    Example:
        >>> from contrast import in_batch_pairs, losses
        >>> z = torch.eye(4)
        >>> pairs = in_batch_pairs(z, z, torch.arange(4))
        >>> plain = losses.ContrastiveLoss(losses.InfoNCE())(pairs).loss
        >>> bool(torch.isclose(losses.ContrastiveLoss(HCL(0.0, 0.0))(pairs).loss, plain))
        True
    """

    @checked
    def __init__(self, positive_share: float = 0.1, beta: float = 1.0) -> None:
        super().__init__()
        if not 0 <= beta < math.inf:
            raise InputError(f"HCL's beta {beta:g} is no number from 0 on: it says how much harder negatives count")
        self.positive_share, self.beta = _share("HCL", positive_share), beta

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        corrected = corrected_negatives(positive, negatives, self.positive_share, self.beta)
        return softplus(refuse_one_sample("HCL", corrected) - positive.logit)

    def extra_repr(self) -> str:
        return f"positive_share={self.positive_share:g}, beta={self.beta:g}"


def corrected_negatives(
    positive: PositiveLogits, negatives: NegativeLogits, positive_share: float, beta: float
) -> Float[Tensor, "*h b"]:
    """``log G`` of `HCL`, computed from logarithms alone: raw exponentials overflow at low temperatures."""
    some = negatives.count > 0
    log_count = negatives.count.clamp(min=1).to(positive.logit.dtype).log()
    # Σ w_j e_j = N · Σ e_j^{1+β} / Σ e_j^β
    total = log_count + _where_some(negatives.logsumexp(1 + beta), some) - _where_some(negatives.logsumexp(beta), some)
    if positive_share > 0:
        taken = log_count + torch.log(total.new_tensor(positive_share)) + positive.logit - total  # log of the share
        below = taken < 0
        # log(-expm1 x) is taken where it is finite alone: a NaN that `where` hides would be in the gradient.
        left = torch.log(-torch.expm1(torch.where(below, taken, -1.0)))
        corrected = total + left - torch.log1p(total.new_tensor(-positive_share))
        total = torch.where(below, corrected, -torch.inf)
        total = torch.maximum(total, log_count + negatives.logit_of(-1.0))
    return total.masked_fill(~some, -torch.inf)


def _where_some(partition: Tensor, some: Tensor) -> Tensor:
    return torch.where(some, partition, 0.0)


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(f"{name}'s positive_share {value:g} is outside [0, 1): the share of false negatives")
    return value
