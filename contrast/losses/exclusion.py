"""Excluded negatives of each query: rows of its own sample, and listed columns."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from contrast.pairs import Pairs

__all__ = ["LeftOut", "left_out"]

_Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows and columns of matrix entries."""
_MOST = 16
"""Largest average number of listed entries per row and column; a batch of a single sample excludes all entries."""


def left_out(pairs: Pairs, start: int, stop: int) -> Bool[Tensor, "b t"]:
    """Mask of the excluded shared negatives of each query: rows of its own sample, and columns in `Pairs.excluded`.

    An unknown index (-1) equals nothing, not even an unknown index of a query.

    Args:
        pairs: queries and shared negatives.
        start: first column.
        stop: column after the last.

    Returns:
        True where a negative is excluded, (b, stop - start).
    """
    return _compared(pairs, slice(0, len(pairs.index)), slice(start, stop))


class LeftOut:
    """Excluded entries of the score matrix of queries and shared negatives, block by block.

    On a CPU the excluded entries are listed once, because each query has only a few: listing costs far less than
    comparing the samples of all entries in every block. The blocks are compared if the entries are many, and on a
    device, where their number is not known without a synchronisation.

    Args:
        pairs: queries and shared negatives.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._listed = _listed(pairs) if pairs.index.device.type == "cpu" else None

    @property
    def symmetric(self) -> bool:
        """Whether the exclusions form a symmetric matrix: row i excludes row j exactly where row j excludes row i."""
        # Compare addresses (`in_batch_pairs` uses one tensor for both): comparing values would synchronise with the
        # device.
        of, index = self.pairs.negative_index, self.pairs.index
        return self.pairs.excluded is None and of.shape == index.shape and of.data_ptr() == index.data_ptr()

    def offered(self) -> Int[Tensor, " b"]:
        """Number of shared negatives of each query that are not excluded."""
        queries, negatives = len(self.pairs.index), len(self.pairs.negative_index)
        if self._listed is not None:
            return torch.from_numpy(negatives - np.bincount(self._listed[0].numpy(), minlength=queries))
        columns = max(1, (1 << 24) // max(1, queries))
        parts = [
            left_out(self.pairs, start, min(start + columns, negatives)).sum(dim=1)
            for start in range(0, negatives, columns)
        ]
        out: Tensor = sum(parts, torch.zeros_like(self.pairs.index))
        return negatives - out

    def blocks(self, rows: int, columns: int) -> HiddenBlocks:
        """The same exclusions, prepared for blocks of `rows` times `columns` entries."""
        return HiddenBlocks(self.pairs, self._listed, rows, columns)


class HiddenBlocks:
    """Overwrites the excluded entries in the blocks of one grid.

    Args:
        pairs: queries and shared negatives.
        listed: rows and columns of all excluded entries. None compares the samples in each block.
        rows: number of rows in a block.
        columns: number of columns in a block.
    """

    def __init__(self, pairs: Pairs, listed: tuple[Tensor, Tensor] | None, rows: int, columns: int) -> None:
        self.pairs, self._rows, self._columns = pairs, rows, columns
        self._places: tuple[Tensor, ...] | None = None
        if listed is None:
            return
        across = max(1, -(-len(pairs.negative_index) // columns))
        down = max(1, -(-len(pairs.index) // rows))
        self._across, self._places = across, (torch.stack(listed),)
        if across * down == 1:
            return
        row, column = listed
        block = row.div(rows, rounding_mode="floor") * across + column.div(columns, rounding_mode="floor")
        order = block.argsort()
        counts = torch.bincount(block, minlength=across * down).tolist()
        self._places = torch.split(torch.stack([row % rows, column % columns])[:, order], counts, dim=1)

    def hide(self, block: Tensor, row: int, column: int, value: float) -> None:
        """Write `value` over the excluded entries of the block that starts at this row and column."""
        if self._places is None:
            out = _compared(self.pairs, slice(row, row + block.shape[0]), slice(column, column + block.shape[1]))
            block.masked_fill_(out, value)
            return
        rows, columns = self._places[row // self._rows * self._across + column // self._columns]
        if len(rows):  # numpy makes a loss of 512 rows 3 % faster
            block.numpy()[rows.numpy(), columns.numpy()] = value


def _compared(pairs: Pairs, rows: slice, columns: slice) -> Tensor:
    of = pairs.negative_index[columns]
    of = of[:, None] if of.ndim == 1 else of
    same = (pairs.index[rows, None, None] == of[None]) & (of[None] >= 0)
    out = same.any(dim=-1)
    if pairs.excluded is not None:
        start, width = columns.start, out.shape[1]
        named = pairs.excluded[rows]
        here = (named >= start) & (named < start + width)
        extra = out.new_zeros((len(out), width + 1))
        extra.scatter_(1, torch.where(here, named - start, width), True)
        out = out | extra[:, :-1]
    return out


def _listed(pairs: Pairs) -> tuple[Tensor, Tensor] | None:
    """Rows and columns of all excluded entries, each listed once; None if there are too many."""
    # With a few hundred numbers, a numpy call takes a fifth of the time of a torch call, and a small batch makes many
    # calls.
    index, of = pairs.index.numpy(), pairs.negative_index.numpy()
    most, width = _MOST * (len(index) + len(of)), max(1, len(of))
    found: list[_Places] = []
    for samples in of[:, None].T if of.ndim == 1 else of.T:
        places = _matches(index, samples, most)
        if places is None:
            return None
        found.append(places)
    if pairs.excluded is not None:
        if pairs.excluded.numel() > most:
            return None
        row, place = (pairs.excluded >= 0).numpy().nonzero()
        found.append((row, pairs.excluded.numpy()[row, place]))
    if len(found) > 1:
        once = np.unique(np.concatenate([row * width + column for row, column in found]))
        found = [np.divmod(once, width)]
    row, column = found[0]
    return torch.from_numpy(row), torch.from_numpy(column)


def _matches(index: NDArray[np.int64], samples: NDArray[np.int64], most: int) -> _Places | None:
    """Rows and columns where the query and the negative are of the same sample; unknown samples equal nothing.

    None if there are more than `most`.
    """
    order = samples.argsort(kind="stable")
    ordered = samples[order]
    first = ordered.searchsorted(index)
    count = ordered.searchsorted(index, side="right") - first
    count[index < 0] = 0
    total = int(count.sum())
    if total > most:
        return None
    row = np.arange(len(index)).repeat(count)
    within = np.arange(total) - (count.cumsum() - count)[row]
    return row, order[first[row] + within]
