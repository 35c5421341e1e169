"""Losses of logits: what observers can ask about negatives."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from contrast.losses.logits import NegativeLogits, PositiveLogits
from contrast.losses.loss import Loss
from contrast.losses.temperature import Temperature
from contrast.pairs import Pairs

__all__ = ["LogitLoss"]


class LogitLoss(Loss, ABC):
    """A loss with negatives: each query's is a function of its positive logit and of sums over its negatives' logits.

    Observers see the negatives of such a loss, and its gradient on each; of any other `Loss` the positives alone.

    Attributes:
        temperature: scores to logits.
    """

    temperature: Temperature

    @abstractmethod
    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        """Positive and negative logits of pairs that are already transformed; observers call it under no_grad."""

    @abstractmethod
    def of_logits(self, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, " b"]:
        """Each query's loss, before weighting, from what `logits` gave; it asks `negatives` for all it needs of them.

        Its gradient on one negative's logit follows from that on what was asked for: that is how observers find it.
        """
