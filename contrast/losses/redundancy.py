"""Redundancy-reduction losses: Barlow Twins and VICReg."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import Loss, LossOutput, both_views, off_diagonal, require_pairs
from contrast.losses.temperature import AdaptiveTemperature, temperature_cost
from contrast.pairs import Pairs

__all__ = ["BarlowTwins", "VICReg", "amcl_barlow", "cross_correlation"]


class BarlowTwins(Loss):
    """Barlow Twins loss: move the cross-correlation matrix of two views towards the identity.

    ``Σ_l (1 - C_ll)² + λ Σ_{l≠m} C_lm²``, with C the cross-correlation of the two views' dimensions

    It takes raw embeddings, one direction, and the batch of all processes. The losses of several heads are summed. A
    query has no loss of its own, so there is no weighting.

    With a temperature, the loss is AMCL's form; see `amcl_barlow`. A pair then consists of two dimensions. Each
    dimension is a vector of its values over the batch, standardised to mean 0 and length 1. The temperature's `width`
    is therefore the global batch size. The loss then depends on the order of the samples, because the temperature's
    network reads them in order.

    Args:
        redundancy: λ, at least 0.
        temperature: temperature of each pair of dimensions, with the global batch size as `width`. None gives Barlow
            Twins itself.

    Raises:
        InputError: for a negative redundancy; for a global batch size that differs from the temperature's width.

    Source: Zbontar et al., ICML 2021, arXiv 2103.03230, eqs. 1 and 2; λ and the 1e-5 in the norm are from the authors'
    code. AMCL's form is Wang et al., ECCV 2024, arXiv 2310.05615, eq. 2.3.

    Example:
        >>> from contrast import Pairs
        >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> none = torch.zeros(0, dtype=torch.int64)
        >>> BarlowTwins()(Pairs(z, z, torch.zeros(0, 2), torch.arange(4), none)).loss.round(decimals=4)
        tensor(0.)
    """

    unit_embeddings = False
    both_directions = False

    @checked
    def __init__(self, redundancy: float = 0.0051, temperature: AdaptiveTemperature | None = None) -> None:
        super().__init__()
        if not redundancy >= 0:
            raise InputError(f"BarlowTwins' redundancy {redundancy:g} is negative; the paper's is 0.0051")
        self.redundancy, self.temperature = redundancy, temperature

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            only, z1, z2 = both_views("BarlowTwins", pairs)
            correlation = cross_correlation(z1, z2)
            if self.temperature is None:
                diagonal = torch.diagonal(correlation, dim1=-2, dim2=-1)
                loss = (1 - diagonal).square().sum() + self.redundancy * off_diagonal(correlation).square().sum()
            else:
                tau = self._temperatures(self.temperature, z1, z2)
                loss = amcl_barlow(correlation, tau, self.redundancy, self.temperature.beta)
        return LossOutput(loss, None, None, (only.detached(),))

    def _temperatures(self, temperature: AdaptiveTemperature, z1: Tensor, z2: Tensor) -> Tensor:
        if temperature.width != z1.shape[-2]:
            raise InputError(
                f"BarlowTwins' temperature has width {temperature.width} and the global batch {z1.shape[-2]} samples: "
                "set loss.temperature.width to the global batch size"
            )
        first, second = (
            torch.nn.functional.normalize(_standardise(rows), dim=-2).transpose(-1, -2) for rows in (z1, z2)
        )
        return temperature.of_pairs(first[..., :, None, :], second[..., None, :, :])

    def extra_repr(self) -> str:
        form = "" if self.temperature is None else f", temperature {self.temperature.extra_repr()}"
        return f"redundancy={self.redundancy:g}{form}"


@checked
def cross_correlation(z1: Float[Tensor, "*h n d"], z2: Float[Tensor, "*h n d"]) -> Float[Tensor, "*h d d"]:
    """Cross-correlation matrix of two views' embeddings, as in Barlow Twins.

    ``C = BN(z1)ᵀ BN(z2) / N``, with ``BN(z) = (z - mean) / √(variance + 1e-5)`` and the biased variance

    Args:
        z1: raw embeddings of the first view of N samples, (*h, n, d).
        z2: raw embeddings of the second view of the same samples, (*h, n, d).

    Returns:
        C, (*h, d, d).

    Source: arXiv 2103.03230, eq. 2, in the form of the authors' code; the paper has no 1e-5.
    """
    return _standardise(z1).transpose(-1, -2) @ _standardise(z2) / z1.shape[-2]


@checked
def amcl_barlow(
    correlation: Float[Tensor, "*h d d"], tau: Float[Tensor, "*h d d"], redundancy: float, beta: float
) -> Float[Tensor, ""]:
    """Barlow Twins loss with a temperature for each pair of dimensions (AMCL), summed over heads.

    ``Σ_l [(1 - C_ll/τ_l)² + β Ω(τ_l)] + Σ_{l≠m} [λ C_lm²/τ_lm - β Ω(τ_lm)]``, with ``Ω(τ) = (d/2) log τ + 1/τ`` and d
    the width of the embeddings

    Args:
        correlation: C, (*h, d, d).
        tau: τ, above 0, (*h, d, d): τ_l on the diagonal and τ_lm elsewhere.
        redundancy: λ.
        beta: β.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615, eq. 2.3.
    """
    cost = beta * temperature_cost(tau, correlation.shape[-1])
    alike = (1 - torch.diagonal(correlation / tau, dim1=-2, dim2=-1)).square()
    alike = alike + torch.diagonal(cost, dim1=-2, dim2=-1)
    return alike.sum() + off_diagonal(redundancy * correlation.square() / tau - cost).sum()


def _standardise(rows: Tensor) -> Tensor:
    variance, mean = torch.var_mean(rows, dim=-2, correction=0, keepdim=True)
    return (rows - mean) / torch.sqrt(variance + 1e-5)


class VICReg(Loss):
    """VICReg loss: variance, invariance and covariance regularisation.

    ``λ mse(z1, z2) + μ ½ [v(z1) + v(z2)] + ν [c(z1) + c(z2)]``, with ``v(z) = mean_l max(0, 1 - √(var_l + 1e-4))`` and
    ``c(z) = Σ_{l≠m} cov_lm² / d``

    Variance and covariance are unbiased and taken over the batch of all processes. The mse is the mean over samples and
    dimensions. The loss takes raw embeddings and one direction. The losses of several heads are summed. A query has no
    loss of its own, so there is no weighting.

    Args:
        similarity: λ, at least 0.
        variance: μ, at least 0.
        covariance: ν, at least 0.

    Raises:
        InputError: for a negative weight; for a batch of one sample.

    Source: Bardes et al., ICLR 2022, arXiv 2105.04906, eqs. 1 to 6, in the form of the authors' code. The paper's total
    does not halve the variance terms, and the paper sums the distance over dimensions. The default weights belong to
    the code's form.

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
                raise InputError(f"VICReg's {name} {value:g} is negative: it is a weight of the loss; give 0 or more")
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
    """Mean over dimensions of how far the standard deviation is below 1."""
    return torch.relu(1 - torch.sqrt(rows.var(dim=-2) + 1e-4)).mean(dim=-1)


def _redundancy(rows: Float[Tensor, "*h n d"]) -> Float[Tensor, "*h"]:
    centred = rows - rows.mean(dim=-2, keepdim=True)
    covariance = centred.transpose(-1, -2) @ centred / (rows.shape[-2] - 1)
    return off_diagonal(covariance).square().sum(dim=(-2, -1)) / rows.shape[-1]
