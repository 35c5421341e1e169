"""What every loss is: pairs in, one number and its per-query parts out."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from contrast.losses.pieces import Piece
from contrast.pairs import Pairs

__all__ = ["Loss", "LossOutput"]


@dataclass(frozen=True)
class LossOutput:
    """A loss and what observers may look at; all but `loss` is detached.

    Attributes:
        loss: the scalar to minimise.
        losses: each query's loss before weighting, (b,), all directions one after another; None where a loss has none.
        weights: each query's weight, (b,); None where there is no weighting.
        pairs: the pairs as they were after the transforms, one a direction.
    """

    loss: Float[Tensor, ""]
    losses: Float[Tensor, " b"] | None
    weights: Float[Tensor, " b"] | None
    pairs: tuple[Pairs, ...]


class Loss(Piece):
    """The second door: anything at all that is computed from `Pairs`.

    Attributes:
        unit_embeddings: whether the method normalises embeddings before it makes pairs.
        both_directions: whether each view is a query once.
    """

    unit_embeddings: ClassVar[bool] = True
    both_directions: ClassVar[bool] = True

    @abstractmethod
    def forward(self, *pairs: Pairs) -> LossOutput:
        """The loss of these pairs; several where directions have different negatives."""
