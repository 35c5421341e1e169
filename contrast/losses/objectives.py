"""Objectives: from a query's positive logit and its negatives to one loss."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.arguments import checked
from contrast.distributed import gather_detached
from contrast.errors import InputError
from contrast.losses.logits import NegativeLogits, PositiveLogits
from contrast.losses.pieces import Piece

__all__ = ["DCL", "DCLW", "InfoNCE", "Objective", "softplus"]

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
