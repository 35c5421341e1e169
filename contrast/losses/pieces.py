"""Pieces of the formula: what they share, and the two slots that most losses leave empty."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.pairs import Pairs
from contrast.run_length import RunLength

__all__ = ["PairTransform", "PairWeighting", "Piece"]


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
