"""What every loss is: pairs in, one number and its per-query parts out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.distributed import global_mean
from contrast.errors import InputError
from contrast.losses.pieces import PairWeighting, Piece
from contrast.pairs import Pairs

__all__ = ["Loss", "LossOutput", "require_pairs", "weighted_mean"]


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

    def begin_epoch(self, epoch: int) -> None:
        for piece in self._pieces():
            piece.begin_epoch(epoch)

    def begin_step(self, epoch: int, step: int) -> None:
        for piece in self._pieces():
            piece.begin_step(epoch, step)

    def _pieces(self) -> Iterator[Piece]:
        return (module for module in self.modules() if isinstance(module, Piece) and not isinstance(module, Loss))


def require_pairs(owner: str, pairs: Sequence[Pairs]) -> None:
    """Refuse a call without pairs.

    Raises:
        InputError: where there are none.
    """
    if not pairs:
        raise InputError(f"{owner} was called without pairs: give what in_batch_pairs or queue_pairs makes")


def weighted_mean(
    losses: Sequence[Float[Tensor, "..."]], pairs: Sequence[Pairs], weighting: PairWeighting | None
) -> LossOutput:
    """Mean over the queries of all directions and processes of weight times loss.

    Args:
        losses: each direction's, (b,) a query.
        pairs: each direction's.
        weighting: one weight a query; None weighs all alike.
    """
    every = losses[0] if len(losses) == 1 else torch.cat(list(losses))
    weights = None
    if weighting is not None:
        weights = weighting(every.detach(), torch.cat([each.index for each in pairs])).detach()
    loss = global_mean(every if weights is None else weights * every)
    return LossOutput(loss, every.detach(), weights, tuple(each.detached() for each in pairs))
