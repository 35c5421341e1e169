"""From score to logit."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.losses.pieces import Piece

__all__ = ["FixedTemperature", "LearnedTemperature", "Temperature", "as_temperature"]


class Temperature(Piece):
    """Scores to logits; one that differs from pair to pair reads the embeddings."""

    @abstractmethod
    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        """The logits of `scores`; `query` and `other` broadcast against each other to their shape, plus width d."""

    @abstractmethod
    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The logit of a score that belongs to no pair of embeddings."""

    def single(self) -> Float[Tensor, ""] | None:
        """τ where ``logit = score / τ`` with one number for all pairs, live where it is learned; None otherwise.

        What a loss with one τ computes is done by a function made for it (`contrast.losses.partition`).
        """
        return None


class FixedTemperature(Temperature):
    """One constant τ: ``logit = score / τ``.

    Args:
        value: τ, above 0.

    Example:
        >>> FixedTemperature(0.5).of_score(torch.tensor(0.2)).item()
        0.4000000059604645
    """

    @checked
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = _positive("temperature", value)

    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        return scores / self.value

    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return score / self.value

    def single(self) -> Float[Tensor, ""]:
        return torch.tensor(self.value, dtype=torch.float64)

    def extra_repr(self) -> str:
        return f"{self.value:g}"


class LearnedTemperature(Temperature):
    """One τ learned in log space and kept between bounds: ``logit = score / exp(θ)``.

    The parameter is put back inside its bounds before each step, so that it is never stuck outside them with no
    gradient. Learned in log space as in CLIP (Radford et al., ICML 2021, arXiv 2103.00020, section 2.4), whose lower
    bound of 0.01 is the default.

    Args:
        initial: τ at the start.
        lowest, highest: its bounds, 0 < lowest <= initial <= highest.
    """

    @checked
    def __init__(self, initial: float = 0.07, lowest: float = 0.01, highest: float = 1.0) -> None:
        super().__init__()
        if not 0 < lowest <= initial <= highest:
            raise InputError(
                f"LearnedTemperature needs 0 < lowest <= initial <= highest, not lowest={lowest:g} "
                f"initial={initial:g} highest={highest:g}"
            )
        self.bounds = (math.log(lowest), math.log(highest))
        self.log_value = nn.Parameter(torch.tensor(math.log(initial)))

    @property
    def value(self) -> Float[Tensor, ""]:
        """τ as it is now."""
        return self.log_value.clamp(*self.bounds).exp()

    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        return scores / self.value.to(scores.dtype)

    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return score / self.value.to(score.dtype)

    def single(self) -> Float[Tensor, ""]:
        return self.value

    def begin_step(self, epoch: int, step: int) -> None:
        with torch.no_grad():
            self.log_value.clamp_(*self.bounds)

    def extra_repr(self) -> str:
        low, high = (math.exp(bound) for bound in self.bounds)
        return f"{self.value.item():g} in [{low:g}, {high:g}]"


def as_temperature(temperature: float | Temperature) -> Temperature:
    """A number as a fixed temperature; a `Temperature` as it is."""
    return temperature if isinstance(temperature, Temperature) else FixedTemperature(temperature)


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} {value:g} is not above 0: it divides the scores; common values are 0.05 to 0.5")
    return float(value)
