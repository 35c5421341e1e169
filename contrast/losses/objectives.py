"""Contrastive objectives: InfoNCE, decoupled (DCL, DCLW), debiased, HCL and hardest negative."""

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
"""Above this x, log(1 + exp x) equals x in float64: exp(-50) is below half a unit in the last place of 50."""


class Objective(Piece):
    """Base class of objectives: one loss per query (and per head) from its logits."""

    @abstractmethod
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        """Loss of each query."""


def softplus(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numerically exact softplus, ``log(1 + exp x)``, to the last digit in float64.

    By default torch returns x itself above 20, where the relative error exp(-x)/x is still about 1e-10.
    """
    return nn.functional.softplus(x, threshold=_LINEAR_FROM)


class InfoNCE(Objective):
    """InfoNCE loss, which is NT-Xent on in-batch pairs.

    ``-l⁺ + log(exp l⁺ + Σ_j exp l_j)``, with l⁺ the positive's logit and l_j the negatives' logits.

    It is computed as ``softplus(log Σ_j exp l_j - l⁺)``, which is the same number.

    Source: van den Oord et al., arXiv 1807.03748, eq. 4; NT-Xent is Chen et al., ICML 2020, arXiv 2002.05709, eq. 1. As
    in the paper, the loss is the mean over the 2N queries. The authors' code returns the sum of the means of the two
    directions, which is twice this value.

    Example:
        >>> from contrast import in_batch_pairs, losses
        >>> z = torch.eye(4)
        >>> loss = losses.ContrastiveLoss(losses.InfoNCE(), temperature=1.0)(in_batch_pairs(z, z, torch.arange(4))).loss
        >>> round(loss.item(), 4)  # log(e + 6) - 1
        1.1654
    """

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        return softplus(negatives.logsumexp() - positive.logit)


class DCL(Objective):
    """Decoupled contrastive loss (DCL): InfoNCE without the positive in the softmax denominator.

    ``-l⁺ + log Σ_j exp l_j``, with l⁺ the positive's logit and l_j the negatives' logits.

    One logarithm holds the sum over the negatives of both views. Hence NT-Xent = softplus(DCL) for each query. A
    negative loss is normal late in training.

    Raises:
        InputError: if a query has no negative, as in a batch of one sample.

    Source: Yeh et al., ECCV 2022, arXiv 2110.06848, eq. 6.
    """

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        return require_negatives(type(self).__name__, negatives.logsumexp()) - positive.logit


def require_negatives(owner: str, partition: Float[Tensor, "*h b"]) -> Float[Tensor, "*h b"]:
    """Refuse queries without negatives, whose DCL loss would be -inf.

    Args:
        owner: name of the objective, for error messages.
        partition: ``log Σ_j exp l_j`` of each query, (*h, b); -inf if the query has no negative. On a device, only
            batches of at most two values are checked, because the check needs a synchronisation.

    Returns:
        `partition`, unchanged.

    Raises:
        InputError: if a query has no negative.
    """
    looked_at = partition.device.type == "cpu" or partition.numel() <= 2
    if looked_at and bool((found := partition.detach().isneginf()).any()):
        query = int(found.nonzero()[0, -1])
        raise InputError(f"{owner}: query {query} has no negative, so its loss is -inf: give 2 samples or more")
    return partition


class DCLW(Objective):
    """Weighted decoupled contrastive loss (DCLW): DCL with a weight on the positive's logit.

    ``-w l⁺ + log Σ_j exp l_j`` with ``w = 2 - exp(s⁺/σ) / mean_b exp(s⁺_b/σ)``

    s⁺ is the positive's score, l⁺ its logit. The mean is taken over the whole batch of all processes. The weight w
    carries no gradient and can be negative.

    Args:
        sigma: σ, above 0. The paper uses 0.5.

    Raises:
        InputError: if sigma is not above 0; if a query has no negative.

    Source: Yeh et al., ECCV 2022, arXiv 2110.06848, section 3 (the negative von Mises-Fisher weighting). According to a
    reader of the paper (lightly's pull request #793), it does not say whether gradient flows through w; here w is a
    constant. A public implementation (raminnakhli/Decoupled-Contrastive-Learning 0b9b76d, not by the paper's authors)
    lets the gradient through.
    """

    @checked
    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        if not sigma > 0:
            raise InputError(f"DCLW's sigma {sigma:g} is not above 0; the paper's is 0.5")
        self.sigma = sigma

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        return (
            require_negatives(type(self).__name__, negatives.logsumexp())
            - self._weight(positive.score.detach()) * positive.logit
        )

    def _weight(self, score: Tensor) -> Tensor:
        scaled = score / self.sigma
        everyone = gather_detached(scaled.movedim(-1, 0)).movedim(0, -1)
        log_mean = torch.logsumexp(everyone, dim=-1, keepdim=True) - torch.log(scaled.new_tensor(everyone.shape[-1]))
        return 2 - torch.exp(scaled - log_mean)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:g}"


class HardestNegative(Objective):
    """Hardest-negative loss: the logit of the hardest negative minus the positive's logit.

    ``l_{j*} - l⁺`` with ``j* = argmax_j s_j``. The hardest negative is chosen by its plain score s, and its logit is
    computed with its own temperature.

    With an `AdaptiveTemperature` this is the loss of AMCL: ``-s⁺/τ⁺ + β Ω(τ⁺) + s*/τ* - β Ω(τ*)``. That loss is not
    bounded below: if s* is below β, the loss falls as τ* goes to 0. The lower bound of τ is therefore part of the
    method. InfoNCE over the same logits is bounded; this project uses InfoNCE for AMCL unless another objective is
    given.

    Args:
        positive_competes: whether the positive is among the candidates (eq. 2.4). A query whose positive is the hardest
            candidate then has the loss 0.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615, eq. 2.1; with the positive among the candidates, eq. 2.4.

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
        return require_negatives(type(self).__name__, logit) - positive.logit

    def extra_repr(self) -> str:
        return f"positive_competes={self.positive_competes}"


class Debiased(Objective):
    """Debiased contrastive loss: InfoNCE with the expected false negatives subtracted from the denominator.

    ``-log(e⁺ / (e⁺ + G))``, ``G = max((Σ_j e_j - N τ⁺ e⁺)/(1 - τ⁺), N e^{-1/τ})``

    Here e = exp(logit) and N is the number of negatives of the query. τ⁺ is the probability that a negative is of the
    query's own class. The floor of G uses -1/τ, the logit of the score -1: no negative of unit rows has a lower score.
    With τ⁺ = 0 the loss is InfoNCE. If a transform lets scores leave [-1, 1], the floor is not a bound.

    Args:
        positive_share: τ⁺, in [0, 1). The authors use 0.1 for CIFAR-10.

    Raises:
        InputError: if positive_share is outside [0, 1).

    Source: Chuang et al., NeurIPS 2020, arXiv 2007.00224, eqs. 7 and 8; one positive, as in the paper's experiments.
    """

    @checked
    def __init__(self, positive_share: float = 0.1) -> None:
        super().__init__()
        self.positive_share = _share("Debiased", positive_share)

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        corrected = corrected_negatives(positive, negatives, self.positive_share, 0.0)
        return softplus(corrected - positive.logit)

    def extra_repr(self) -> str:
        return f"positive_share={self.positive_share:g}"


class HCL(Objective):
    """Hard-negative contrastive loss (HCL): `Debiased` with larger weights for harder negatives.

    ``-log(e⁺ / (e⁺ + G))`` with ``G = max((Σ_j w_j e_j - N τ⁺ e⁺)/(1 - τ⁺), N e^{-1/τ})`` and
    ``w_j = e_j^β / mean(e^β)``

    Here e = exp(logit) and N is the number of negatives of the query. As in the authors' code, gradient flows through
    the weights w. With β = 0 it is the debiased loss. With β = 0 and τ⁺ = 0 it is InfoNCE.

    Args:
        positive_share: τ⁺, the probability that a negative is of the query's own class, in [0, 1).
        beta: β, at least 0. A larger β gives harder negatives a larger weight.

    Raises:
        InputError: if positive_share is outside [0, 1); if beta is negative or infinite.

    Source: Robinson et al., ICLR 2021, arXiv 2010.04592.

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
            raise InputError(
                f"HCL's beta {beta:g} must be finite and at least 0: it sets how much harder negatives count"
            )
        self.positive_share, self.beta = _share("HCL", positive_share), beta

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
        corrected = corrected_negatives(positive, negatives, self.positive_share, self.beta)
        return softplus(corrected - positive.logit)

    def extra_repr(self) -> str:
        return f"positive_share={self.positive_share:g}, beta={self.beta:g}"


def corrected_negatives(
    positive: PositiveLogits, negatives: NegativeLogits, positive_share: float, beta: float
) -> Float[Tensor, "*h b"]:
    """``log G`` of `HCL`: the logarithm of the debiased, hardness-weighted sum over the negatives.

    It is computed from logarithms only, because plain exponentials overflow at low temperatures.

    Args:
        positive: logits of the positives.
        negatives: logits of the negatives.
        positive_share: τ⁺.
        beta: β; 0 gives the G of `Debiased`.

    Returns:
        ``log G``, (*h, b); -inf for a query without negatives.
    """
    some = negatives.count > 0
    log_count = negatives.count.clamp(min=1).to(positive.logit.dtype).log()
    # Σ w_j e_j = N · Σ e_j^{1+β} / Σ e_j^β
    total = log_count + _where_some(negatives.logsumexp(1 + beta), some) - _where_some(negatives.logsumexp(beta), some)
    if positive_share > 0:
        taken = log_count + torch.log(total.new_tensor(positive_share)) + positive.logit - total  # log(N τ⁺ e⁺ / total)
        below = taken < 0
        # Replace x where log(-expm1 x) is not finite: `torch.where` would hide the NaN in the value, but not in the
        # gradient.
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
