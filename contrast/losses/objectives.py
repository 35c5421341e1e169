"""Objectives: InfoNCE, decoupled (DCL, DCLW), debiased, HCL, and the hardest negative."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.checks import checked
from contrast.distributed import gather_detached
from contrast.errors import InputError
from contrast.losses.base import Piece
from contrast.losses.logits import NegativeLogits, PositiveLogits

__all__ = ["DCL", "DCLW", "HCL", "Debiased", "HardestNegative", "InfoNCE", "Objective", "softplus"]

_LINEAR_FROM = 50.0
"""Beyond it log(1 + exp x) is x in float64: exp(-50) is below half a unit in the last place of 50."""


class Objective(Piece):
    """One loss a query (and head)."""

    @abstractmethod
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        """Each query's loss."""


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``log(1 + exp x)``, to the last digit in float64.

    Torch's default is x itself from 20 on, where exp(-x) still is a relative 1e-10 of the result.
    """
    return nn.functional.softplus(x, threshold=_LINEAR_FROM)


class InfoNCE(Objective):
    """InfoNCE, which is NT-Xent on in-batch pairs: ``-l⁺ + log(exp l⁺ + Σ_j exp l_j)``.

    Computed as ``softplus(log Σ_j exp l_j - l⁺)``, the same number.

    Source: van den Oord et al., arXiv 1807.03748, eq. 4; NT-Xent is Chen et al., ICML 2020, arXiv 2002.05709, eq. 1.
    The mean over the 2N queries is taken, as in the paper; the authors' code returns the sum of the two directions'
    means, twice this value.

    Example:
        >>> from contrast import in_batch_pairs, losses
        >>> z = torch.eye(4)
        >>> loss = losses.ContrastiveLoss(losses.InfoNCE(), temperature=1.0)(in_batch_pairs(z, z, torch.arange(4))).loss
        >>> round(loss.item(), 4)  # log(e + 6) - 1
        1.1654
    """

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        return softplus(refuse_one_sample("InfoNCE", negatives.logsumexp()) - positive.logit)


class DCL(Objective):
    """Decoupled contrastive loss, InfoNCE without the positive in the denominator: ``-l⁺ + log Σ_j exp l_j``.

    Source: Yeh et al., ECCV 2022, arXiv 2110.06848, eq. 6. The sum runs over the negatives of both views inside one
    logarithm. Hence NT-Xent = softplus(DCL), query by query. A negative loss is normal late in training.

    Raises:
        InputError: where a query has no negative, as in a batch of one sample.
    """

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        return require_negatives("DCL", negatives.logsumexp()) - positive.logit


def require_negatives(owner: str, partition: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b"]:
    """``log Σ_j exp l_j`` of queries that all have a negative: without one it is -inf, and so is the loss.

    Args:
        owner: for messages.
        partition: of each query. On a device, where looking would wait for it, only that of one sample is looked at.

    Raises:
        InputError: where a query has no negative.
    """
    looked_at = partition.device.type == "cpu" or partition.numel() <= 2
    if looked_at and bool((found := partition.detach().isneginf()).any()):
        query = int(found.nonzero()[0, -1])
        raise InputError(f"{owner}: query {query} has no negative, so its loss is -inf: give 2 samples or more")
    return partition


def refuse_one_sample(owner: str, partition: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b"]:
    """``log Σ_j exp l_j``, unless a whole batch of one sample has no negative: its loss would be 0 and teach nothing.

    A single query of many may be without negatives, where they were removed: its loss is 0.

    Raises:
        InputError: where there are one or two queries, and no negative for them.
    """
    if partition.shape[-1] <= 2 and bool(partition.detach().isneginf().all()):
        raise InputError(f"{owner}: no query has a negative, so its loss is 0: give 2 samples or more")
    return partition


class DCLW(Objective):
    """Weighted DCL: ``-w l⁺ + log Σ_j exp l_j`` with ``w = 2 - exp(s⁺/σ) / mean_b exp(s⁺_b/σ)``, w without gradient.

    Source: Yeh et al., ECCV 2022, arXiv 2110.06848, section 3 (the negative von Mises-Fisher weighting). The mean is
    over the whole batch, of all processes. Whether gradient flows through w, the paper does not say, as far as a reader
    of it reports (lightly's pull request #793); here w is a constant. A public implementation
    (raminnakhli/Decoupled-Contrastive-Learning 0b9b76d, not by the paper's authors) lets gradient through. w can be
    negative.

    Args:
        sigma: σ, above 0; the paper's 0.5.

    Raises:
        InputError: for a sigma that is not above 0; where a query has no negative.
    """

    @checked
    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        if not sigma > 0:
            raise InputError(f"DCLW's sigma {sigma:g} is not above 0; the paper's is 0.5")
        self.sigma = sigma

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        return require_negatives("DCLW", negatives.logsumexp()) - self._weight(positive.score.detach()) * positive.logit

    def _weight(self, score: Tensor) -> Tensor:
        scaled = score / self.sigma
        everyone = gather_detached(scaled.movedim(-1, 0)).movedim(0, -1)
        log_mean = torch.logsumexp(everyone, dim=-1, keepdim=True) - torch.log(scaled.new_tensor(everyone.shape[-1]))
        return 2 - torch.exp(scaled - log_mean)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:g}"


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
