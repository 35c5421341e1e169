"""VICReg: two views alike, every dimension in use, no two dimensions alike."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.losses.global_batch import both_views, off_diagonal
from contrast.losses.loss import Loss, LossOutput, require_pairs
from contrast.pairs import Pairs

__all__ = ["VICReg"]


class VICReg(Loss):
    """VICReg: ``λ mse(z1, z2) + μ ½ [v(z1) + v(z2)] + ν [c(z1) + c(z2)]``.

    ``v(z) = mean_l max(0, 1 - √(var_l + 1e-4))`` and ``c(z) = Σ_{l≠m} cov_lm² / d``, variance and covariance unbiased
    and over the batch of all processes; mse is the mean over samples and dimensions. It takes raw embeddings and one
    direction. Several heads are summed. No query has a loss of its own, so there is no weighting.

    Source: Bardes et al., ICLR 2022, arXiv 2105.04906, eqs. 1 to 6, by the authors' code. The paper's total does not
    halve the variance terms, and its distance is summed over dimensions; the code's form is the one whose weights are
    the defaults.

    Args:
        similarity: λ, at least 0.
        variance: μ, at least 0.
        covariance: ν, at least 0.

    Raises:
        InputError: for a negative weight, and a batch of one sample.

    Example:
        >>> from contrast import Pairs
        >>> z = 2 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> none = torch.zeros(0, dtype=torch.int64)
        >>> VICReg()(Pairs(z, z, torch.zeros(0, 2), torch.arange(4), none)).loss
        tensor(0.)
    """

    unit_embeddings = False
    both_directions = False

    @checked
    def __init__(self, similarity: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        for name, value in (("similarity", similarity), ("variance", variance), ("covariance", covariance)):
            if not value >= 0:
                raise InputError(f"VICReg's {name} {value:g} is negative: it weighs a term that is to be small")
        self.similarity, self.variance, self.covariance = similarity, variance, covariance

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            only, z1, z2 = both_views("VICReg", pairs)
            distance = (z1 - z2).square().mean(dim=(-2, -1))
            hinges = (_hinge(z1) + _hinge(z2)) / 2
            redundancy = _redundancy(z1) + _redundancy(z2)
            terms = self.similarity * distance + self.variance * hinges + self.covariance * redundancy
        return LossOutput(terms.sum(), None, None, (only.detached(),))

    def extra_repr(self) -> str:
        return f"similarity={self.similarity:g}, variance={self.variance:g}, covariance={self.covariance:g}"


def _hinge(rows: Float[Tensor, "*h n d"]) -> Float[Tensor, "*h"]:
    """How far the dimensions' deviations are below 1, on the mean."""
    return torch.relu(1 - torch.sqrt(rows.var(dim=-2) + 1e-4)).mean(dim=-1)


def _redundancy(rows: Float[Tensor, "*h n d"]) -> Float[Tensor, "*h"]:
    centred = rows - rows.mean(dim=-2, keepdim=True)
    covariance = centred.transpose(-1, -2) @ centred / (rows.shape[-2] - 1)
    return off_diagonal(covariance).square().sum(dim=(-2, -1)) / rows.shape[-1]
