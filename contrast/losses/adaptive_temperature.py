"""AMCL: a temperature for each pair and head, from a network that reads the embeddings."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.errors import InputError
from contrast.losses.temperature import Temperature

__all__ = ["AdaptiveTemperature", "amcl_logits", "temperature_cost"]


class AdaptiveTemperature(Temperature):
    """AMCL's temperature: ``logit = s/τ - β Ω(τ)``, ``τ = lowest + (highest - lowest) · sigmoid(φ(z) · φ(z′))``.

    ``Ω(τ) = (d/2) log τ + 1/τ`` keeps τ from running to a bound: for β = 1, ``-s/τ + Ω(τ)`` is the negative
    log-likelihood of a Gaussian of variance τ. One small network φ is shared by all heads; each pair of each head has
    a τ of its own.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615. The paper says what τ depends on, not how; φ, its bounds and β are
    this project's choice. The published code cannot be run and has no negatives in its loss: it is not followed.

    Args:
        width: d, the embeddings' width; the head's `output_width`.
        hidden_width: of φ's hidden layer and of its output.
        lowest, highest: bounds of τ, 0 < lowest < highest.
        beta: β, at least 0; 0 leaves Ω out.

    Raises:
        InputError: for bounds that are none, a beta that is negative or infinite, and embeddings of another width.

    Example:
        >>> temperature = AdaptiveTemperature(width=8)
        >>> z = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
        >>> tau = temperature.of_pairs(z, z)
        >>> tau.shape, bool(((tau > 0.05) & (tau < 0.5)).all())
        (torch.Size([4]), True)
    """

    def __init__(
        self,
        width: int = 128,
        hidden_width: int = 128,
        lowest: float = 0.05,
        highest: float = 0.5,
        beta: float = 0.01,
    ) -> None:
        super().__init__()
        if width < 1 or hidden_width < 1:
            raise InputError(f"AdaptiveTemperature's width {width} and hidden_width {hidden_width} are to be above 0")
        if not 0 < lowest < highest < math.inf:
            raise InputError(
                f"AdaptiveTemperature needs 0 < lowest < highest < inf, not {lowest:g} and {highest:g}: without a "
                "lower bound the loss has none"
            )
        if not 0 <= beta < math.inf:
            raise InputError(
                f"AdaptiveTemperature's beta {beta:g} is no number from 0 on: it weighs what keeps tau in the middle"
            )
        self.width, self.lowest, self.highest, self.beta = width, lowest, highest, beta
        self.network = nn.Sequential(
            nn.Linear(width, hidden_width), nn.ReLU(inplace=True), nn.Linear(hidden_width, hidden_width)
        )

    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        return amcl_logits(scores, self.of_pairs(query, other), self.beta, self.width)

    def of_pairs(self, query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """τ of each pair; arguments as in `forward`."""
        if query.shape[-1] != self.width:
            raise InputError(
                f"AdaptiveTemperature of width {self.width} got embeddings of width {query.shape[-1]}: set its width "
                "to the head's output_width"
            )
        agreement = _inner(self.network(query), self.network(other))
        return self.lowest + (self.highest - self.lowest) * torch.sigmoid(agreement)

    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        raise InputError(
            "AdaptiveTemperature has no logit for a score without embeddings, which Debiased and HCL ask for: take "
            "InfoNCE, DCL or HardestNegative with it"
        )

    def extra_repr(self) -> str:
        return f"in [{self.lowest:g}, {self.highest:g}] by pair, beta {self.beta:g}"


def amcl_logits(
    score: Float[Tensor, "..."], tau: Float[Tensor, "..."], beta: float, width: int
) -> Float[Tensor, "..."]:
    """``s/τ - β Ω(τ)``: the logits of AMCL, arXiv 2310.05615.

    Args:
        score: s, before the temperature.
        tau: τ of each, above 0.
        beta: β.
        width: d in Ω.
    """
    return score / tau - beta * temperature_cost(tau, width)


def temperature_cost(tau: Float[Tensor, "..."], width: int) -> Float[Tensor, "..."]:
    """``Ω(τ) = (d/2) log τ + 1/τ``; smallest at τ = 2/d."""
    return width / 2 * torch.log(tau) + 1 / tau


def _inner(query: Tensor, other: Tensor) -> Tensor:
    """Inner products along the last axis of tensors that broadcast, by a matrix product where every row meets every."""
    if query.ndim > 2 and query.shape[-2] == 1 and other.shape[-3] == 1:
        return query.squeeze(-2) @ other.squeeze(-3).transpose(-1, -2)
    if query.ndim > 2 and query.shape[-2] == 1:
        return (other @ query.transpose(-1, -2)).squeeze(-1)
    return (query * other).sum(dim=-1)
