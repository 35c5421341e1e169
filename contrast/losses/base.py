"""Base classes of losses and of the pieces of a contrastive loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.distributed import gather, global_mean
from contrast.errors import InputError
from contrast.pairs import Pairs
from contrast.runs.length import RunLength

__all__ = [
    "Loss",
    "LossOutput",
    "PairTransform",
    "PairWeighting",
    "Piece",
    "both_views",
    "off_diagonal",
    "require_pairs",
    "weighted_mean",
    "wide",
]


def wide(rows: Tensor) -> Tensor:
    """At least float32, whatever autocast chose: scores and sums are never taken in half precision."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def both_views(owner: str, pairs: Sequence[Pairs]) -> tuple[Pairs, Float[Tensor, "*h n d"], Float[Tensor, "*h n d"]]:
    """The one direction there is, and the queries and positives of all processes, at least float32, with gradient.

    Every process computes the same loss of all rows; averaged over processes, as DistributedDataParallel does, the
    gradients are those of one.

    Args:
        owner: the loss, for messages.
        pairs: what it was given.

    Raises:
        InputError: where there are several directions, or fewer than two samples.
    """
    if len(pairs) != 1:
        raise InputError(f"{owner} takes one direction, query and positive, not {len(pairs)}: use --model TwoView")
    (only,) = pairs
    z1, z2 = (gather(wide(rows).movedim(-2, 0)).movedim(0, -2) for rows in (only.query, only.positive))
    # Two rows may be two views of one sample; of more no device is asked.
    if z1.shape[-2] < 2 or (z1.shape[-2] == len(only.index) == 2 and bool(only.index[0] == only.index[1])):
        raise InputError(f"{owner} takes statistics over the batch, of 1 samples: give at least 2")
    return only, z1, z2


def off_diagonal(matrices: Float[Tensor, "*h d d"]) -> Float[Tensor, "*h d d"]:
    """The matrices with zeros on the diagonal."""
    diagonal = torch.eye(matrices.shape[-1], dtype=torch.bool, device=matrices.device)
    return matrices.masked_fill(diagonal, 0)


class Piece(nn.Module, ABC):
    """A module of a loss with hooks at each epoch and step, and a word on whether it acts at all."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of an epoch; again, to no effect, where a run resumes in mid-epoch."""

    def begin_step(self, epoch: int, step: int) -> None:
        """Called before each training step, `step` counted over the whole run."""

    def never_acts(self, run: RunLength) -> str | None:
        """One sentence without a full stop where this piece never acts in a run of this length; else None."""
        return None

    def describe(self) -> str:
        """What this is and what it was set to, in one line."""
        return f"{type(self).__name__}({self.extra_repr()})"


class PairTransform(Piece):
    """Pairs to pairs, before any score is taken: mixing, extrapolation, removal."""

    @abstractmethod
    def forward(self, pairs: Pairs) -> Pairs:
        """The pairs that the loss is to see."""


class PairWeighting(Piece):
    """One weight a query, from its loss and sample; the queries of one sample get one weight."""

    @abstractmethod
    def forward(self, losses: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The weights; statistics are over the global batch and written in training mode only."""


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
