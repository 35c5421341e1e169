"""Base class of memory banks, and nearest-neighbour search that leaves out a query's own sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.errors import counted
from contrast.pairs import UNKNOWN, Negatives
from contrast.runs.length import RunLength
from contrast.search.exact import nearest

__all__ = ["MemoryBank", "Negatives", "Neighbours", "SearchOf", "nearest_of_others", "renumbered"]

SearchOf = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""Function from (queries, keys, count) to (scores, rows), best first; missing rows have score -inf and row -1."""


class Neighbours(NamedTuple):
    """Nearest stored rows of each query, nearest first; missing rows have score -inf and row -1.

    Attributes:
        score: inner products, (b, n).
        row: row numbers in the bank, (b, n).
    """

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
    """Top-k search: the `count` nearest keys of each query, without keys of the query's own sample.

    Args:
        query: rows to search for, (b, d).
        index: sample of each query, (b,); -1 excludes no key.
        keys: rows to search, (k, d).
        key_index: sample of each key, (k,).
        count: number of keys per query; fewer may be found.
        search: top-k search over all keys, own sample included.

    Returns:
        Scores and rows of `keys`, best first; -inf and -1 where fewer keys were found.
    """
    wide = query.to(torch.float64 if keys.dtype == torch.float64 else torch.float32)
    spare = 1 if bool((index != UNKNOWN).any()) else 0  # extra results to replace own-sample rows
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
    order = own.long().argsort(dim=1, stable=True)  # stable: own-sample rows go last, other rows stay best first
    score, row = score.masked_fill(own, -torch.inf).gather(1, order), row.masked_fill(own, -1).gather(1, order)
    missing = max(0, count - most)
    score = torch.nn.functional.pad(score[:, :count], (0, missing), value=-torch.inf)
    return Neighbours(score, torch.nn.functional.pad(row[:, :count], (0, missing), value=-1))


class MemoryBank(nn.Module, ABC):
    """Memory bank of past keys (abstract base class); a method owns it, never a loss.

    All state, pointers included, is in persistent buffers and therefore in the checkpoint. A method reads `negatives`
    before the loss and calls `store` after backward, so that no buffer is overwritten while backward still reads it.

    Attributes:
        size: number of rows.
        recall_at: k of the recall@k that a run records. 0 if every search is exact.
    """

    size: int
    recall_at: int = 0

    def begin(self, samples: int | None) -> None:
        """Prepare for training: called once before training, after distributed processes are initialised.

        A bank raises InputError here where the training set does not fit.

        Args:
            samples: number of training samples; None where it is unknown.
        """

    def never_acts(self, run: RunLength) -> str | None:
        """Reason why this run ends before the bank is full or before it mines; None where it does not.

        The reason is one sentence without a full stop. A bank that takes one key per sample and step is full after as
        many samples as it has rows.

        Args:
            run: planned length of the run.
        """
        needed = -(-self.size // run.samples_per_step)
        if needed <= run.steps:
            return None
        return (
            f"{type(self).__name__} of {self.size:,} keys is full after {needed:,} steps and this run has "
            f"{counted(run.steps, 'step')}: it will never be full"
        )

    @abstractmethod
    def negatives(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> Negatives:
        """Negatives for these queries.

        Args:
            query: embeddings of the queries, (b, d).
            index: sample of each query, (b,).
        """

    @abstractmethod
    def stored(self) -> tuple[Float[Tensor, "k d"], Int[Tensor, " k"]]:
        """Rows that hold a key, (k, d), and the sample of each, (k,)."""

    @abstractmethod
    def filled_rows(self) -> int:
        """Number of rows that hold a key, over all processes; these are the first rows."""

    @abstractmethod
    def about(self, row: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """For each of these rows: its sample, and the number of the `store` call that wrote it, counted from 0."""

    @torch.no_grad()
    def neighbours(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"], count: int) -> Neighbours:
        """Top-k search: the `count` nearest stored keys of each query, without keys of the query's own sample.

        Args:
            query: rows to search for, (b, d).
            index: sample of each query, (b,); -1 excludes no key.
            count: number of keys per query; fewer may be found.
        """
        return nearest_of_others(query, index, *self.stored(), count)

    def recall(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"], count: int) -> float | None:
        """Recall of an approximate search: the share of the exact neighbours that it finds; None while search is exact.

        A bank that searches approximately overrides it and `recall_at`.

        Args:
            query: rows to search for, (b, d).
            index: sample of each query, (b,); -1 excludes no key.
            count: number of neighbours per query.
        """
        return None

    def keys_at(self, row: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Keys of these rows, (b, n, d); where a row is -1, its key is arbitrary."""
        keys, _ = self.stored()
        return keys[row.clamp(min=0)]

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        """Renumber the samples in a stored state after the data set changed.

        Keys of removed samples become keys of unknown sample. The default does nothing. Override it in a bank that
        stores sample numbers.

        Args:
            state: state dict of a whole method, changed in place.
            prefix: prefix of this bank's entries.
            old_of: for each sample of the new data, its number in the old data; -1 for a new sample.
            new_of: for each sample of the old data, its number in the new data; -1 for a removed sample.
        """

    @abstractmethod
    def store(self, keys: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        """Store this rank's keys, and with several processes the keys of all ranks.

        Args:
            keys: embeddings to store, (b, d).
            index: sample of each key, (b,).
        """


def renumbered(index: Int[Tensor, " k"], new_of: Int[Tensor, " n"]) -> Int[Tensor, " k"]:
    """Translate sample numbers of the old data to the new data; -1 for samples that were removed or unknown.

    Args:
        index: sample numbers in the old data, (k,).
        new_of: for each sample of the old data, its number in the new data. If empty, `index` is returned unchanged.
    """
    known = (index >= 0) & (index < len(new_of))
    return torch.where(known, new_of[torch.where(known, index, 0)], UNKNOWN) if len(new_of) else index
