"""Base class of memory banks, and nearest neighbours as positives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from contrast.pairs import UNKNOWN
from contrast.runs.length import RunLength
from contrast.search.exact import nearest

__all__ = ["MemoryBank", "Negatives", "Neighbours", "SearchOf", "nearest_of_others", "renumbered"]

SearchOf = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""From queries, keys and a count to scores and rows, best first; -inf and -1 where it found fewer."""


class Neighbours(NamedTuple):
    """Stored rows of each query, nearest first: inner products and places; -inf and -1 where there are no more."""

    score: Float[Tensor, "b n"]
    row: Int[Tensor, "b n"]


def nearest_of_others(
    query: Float[Tensor, "b d"],
    index: Int[Tensor, " b"],
    keys: Float[Tensor, "k d"],
    key_index: Int[Tensor, " k"],
    count: int,
    search: SearchOf = nearest,
) -> Neighbours:
    """The `count` nearest keys of each query that are not of its own sample.

    Args:
        query: rows to search for.
        index: which sample each is of; -1 leaves nothing out.
        keys: rows to search.
        key_index: which sample each is of.
        count: rows a query, of which there may be fewer.
        search: finds the nearest keys of any sample.
    """
    wide = query.to(torch.float64 if keys.dtype == torch.float64 else torch.float32)
    spare = 1 if bool((index != UNKNOWN).any()) else 0  # own rows that the search may come upon
    while True:
        most = min(count + spare, len(keys))
        if not most:
            return Neighbours(
                wide.new_full((len(query), count), -torch.inf), torch.full_like(index, -1)[:, None].expand(-1, count)
            )
        score, row = search(wide, keys, most)
        own = (key_index[row.clamp(min=0)] == index[:, None]) & (index[:, None] != UNKNOWN) & (row >= 0)
        if most == len(keys) or int((~own).sum(dim=1).min()) >= count:
            break
        spare = 4 * spare + 1
    order = own.long().argsort(dim=1, stable=True)  # own rows to the end, the others, best first, as they are
    score, row = score.masked_fill(own, -torch.inf).gather(1, order), row.masked_fill(own, -1).gather(1, order)
    missing = max(0, count - most)
    score = torch.nn.functional.pad(score[:, :count], (0, missing), value=-torch.inf)
    return Neighbours(score, torch.nn.functional.pad(row[:, :count], (0, missing), value=-1))


@dataclass(frozen=True)
class Negatives:
    """What a bank offers to a batch of queries: rows to all of them, rows to each one, or both.

    Attributes:
        keys: rows offered to every query, (k, d).
        index: which sample each is of, (k,); -1 is unknown.
        placeholder: which of them are no sample's key, (k,): offered and counted, never mined; None if none is.
        own: rows for each query alone, (b, s, d).
        own_index: which sample each of those is of, (b, s); -1 is unknown, -2 is no row.
        age: how many steps ago each of `keys` was written, (k,); -1 where there is no telling; None as that.
        own_age: the same of `own`, (b, s).
    """

    keys: Float[Tensor, "k d"]
    index: Int[Tensor, " k"]
    placeholder: Bool[Tensor, " k"] | None = None
    own: Float[Tensor, "b s d"] | None = None
    own_index: Int[Tensor, "b s"] | None = None
    age: Int[Tensor, " k"] | None = None
    own_age: Int[Tensor, "b s"] | None = None


class MemoryBank(nn.Module, ABC):
    """A store of past keys, owned by a method and never by a loss.

    All state is persistent buffers, pointers too, so that it is in the checkpoint. A method reads `negatives` before
    the loss and calls `store` after backward: nothing writes a buffer that backward still reads.

    Attributes:
        size: how many rows it holds.
    """

    size: int

    def begin(self, samples: int | None) -> None:
        """Called once before training, when processes know each other; a training set that does not fit is refused.

        Args:
            samples: of the training set, None where unknown.
        """

    def never_acts(self, run: RunLength) -> str | None:
        """One sentence without a full stop where the run ends before the bank is full, or before it mines; else None.

        A bank that takes one key a sample and step is full once it has seen as many samples as it has rows.
        """
        needed = -(-self.size // run.samples_per_step)
        if needed <= run.steps:
            return None
        return (
            f"{type(self).__name__} of {self.size:,} keys is full after {needed:,} steps and this run has "
            f"{run.steps:,}: it will never be full"
        )

    @abstractmethod
    def negatives(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> Negatives:
        """The rows that these queries, of samples `index`, are offered."""

    @abstractmethod
    def stored(self) -> tuple[Float[Tensor, "k d"], Int[Tensor, " k"]]:
        """The rows that hold a key, and which sample each is of."""

    @abstractmethod
    def filled_rows(self) -> int:
        """How many rows hold a key, of all processes: rows 0 and on."""

    @abstractmethod
    def about(self, row: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Which sample each of these rows is of, and in which call of `store`, from 0, it was written."""

    @torch.no_grad()
    def neighbours(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"], count: int) -> Neighbours:
        """The `count` nearest stored keys of each query that are not of its own sample.

        Args:
            query: rows to search for.
            index: which sample each is of; -1 leaves nothing out.
            count: rows a query, of which there may be fewer.
        """
        return nearest_of_others(query, index, *self.stored(), count)

    def keys_at(self, row: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """The keys of these rows; any where the row is -1."""
        keys, _ = self.stored()
        return keys[row.clamp(min=0)]

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        """Number the samples in a stored state as other data do; the keys of samples that are gone are of no known one.

        A bank of one's own that keeps samples' numbers overrides it; by default there are none.

        Args:
            state: of a whole method, changed in place.
            prefix: of this bank's entries.
            old_of: by sample of the new data, its number in the old data; -1 for a new one.
            new_of: by sample of the old data, its number in the new data; -1 for one that is gone.
        """

    @abstractmethod
    def store(self, keys: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        """Remember this rank's keys and, with several processes, everyone's."""


def renumbered(index: Int[Tensor, " k"], new_of: Int[Tensor, " n"]) -> Int[Tensor, " k"]:
    """Samples' numbers in other data; -1 for samples that are gone or were not known."""
    known = (index >= 0) & (index < len(new_of))
    return torch.where(known, new_of[torch.where(known, index, 0)], UNKNOWN) if len(new_of) else index
