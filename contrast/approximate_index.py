"""What an approximate index of keys is: built from keys that change afterwards, and searched for the nearest."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["ApproximateIndex"]


class ApproximateIndex(ABC):
    """Keys by row number, of which a search looks at few."""

    @abstractmethod
    def replace(self, row: Int[Tensor, " b"], keys: Float[Tensor, "b d"]) -> None:
        """Put keys into these rows, each named once: rows that are there already, and the next ones, in any order."""

    @abstractmethod
    def search(
        self, query: Float[Tensor, "b d"], count: int, effort: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
        """The nearest keys that were looked at, best first; -inf and -1 where there were fewer.

        Args:
            query: float32 rows on the CPU.
            count: neighbours a query.
            effort: how much is looked at, in the index's own measure.
        """

    @abstractmethod
    def state(self) -> Tensor:
        """What a checkpoint keeps: with the keys, all that a search depends on."""
