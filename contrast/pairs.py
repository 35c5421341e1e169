"""Pairs: the record that a method gives to a loss, with queries, positives, negatives and their sample indices."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.checks import check_tensors, checked, tensor_hints
from contrast.distributed import gather, gather_detached, world_size
from contrast.errors import InputError

__all__ = [
    "MINED",
    "NOT_OFFERED",
    "PAIR_MIX",
    "QUERY_MIX",
    "UNKNOWN",
    "Negatives",
    "Pairs",
    "cross_pairs",
    "in_batch_pairs",
    "negative_free_pairs",
    "queue_pairs",
]

UNKNOWN = -1
"""Index of a negative of no known sample: it equals no other index, so the negative is never excluded by index."""
NOT_OFFERED = -2
"""Index of padding among the own negatives: it is not a row, and is neither offered nor counted."""
MINED, PAIR_MIX, QUERY_MIX = range(3)
"""Kinds of own negatives: a real row, a mix of two negatives, a mix of the query and a negative."""


@dataclass(frozen=True)
class Negatives:
    """Negatives that a memory bank offers to a batch of queries: rows for all queries, rows per query, or both.

    Attributes:
        keys: rows offered to every query, (k, d).
        index: sample of each of `keys`, (k,); -1 is unknown.
        placeholder: True for rows of `keys` that are not a sample's key, (k,). The loss counts them, but they are never
            mined. None where there are no such rows.
        own: rows offered to one query each, (b, s, d).
        own_index: sample of each of `own`, (b, s); -1 is unknown, -2 marks an empty place.
        age: number of steps since each of `keys` was written, (k,); -1 or None where it is unknown.
        own_age: number of steps since each of `own` was written, (b, s); -1 or None where it is unknown.
    """

    keys: Float[Tensor, "k d"]
    index: Int[Tensor, " k"]
    placeholder: Bool[Tensor, " k"] | None = None
    own: Float[Tensor, "b s d"] | None = None
    own_index: Int[Tensor, "b s"] | None = None
    age: Int[Tensor, " k"] | None = None
    own_age: Int[Tensor, "b s"] | None = None


@dataclass(frozen=True)
class Pairs:
    """Queries with their positives and negatives: the input of every loss.

    The axes are h heads (absent with one head), b queries, k shared negatives, s own negatives and width d. A shared
    negative of the query's own sample is never used as a negative: the loss compares `index` with `negative_index`. No
    (b, k) mask is stored.

    Attributes:
        query: (*h, b, d), the queries; unit rows if the loss asks for them.
        positive: (*h, b, d), the positive of each query.
        negatives: (*h, k, d), shared negatives, offered to every query.
        index: (b,), the training sample of each query.
        negative_index: (k,) or (k, 2), the sample or the two samples of each shared negative. -1 is unknown.
        view: (b,), the view of each query. It keys the query's random numbers.
        placeholder: (k,), True for shared negatives that are not the embedding of a sample, such as a queue's random
            start. They are offered and counted, but never mined.
        excluded: (b, m), columns of `negatives` that are excluded for each query. -1 pads.
        own_negatives: (*h, b, s, d), negatives that were mined or made for one query only.
        own_negative_index: (b, s), the sample of each own negative. -1 is unknown. -2 is padding, neither offered nor
            counted.
        own_negative_kind: (s,), the kind of each own negative (MINED, PAIR_MIX, QUERY_MIX), for observers.
        own_negative_parents: (*h, b, s, 2), the samples that each own negative is made of, for observers. -1 is
            unknown, or no second sample. None if `own_negative_index` says everything.
        extra_positives: (*h, b, p, d), further positives of each query.
        extra_positive_index: (b, p), the sample of each extra positive. -1 is unknown, -2 is padding.

    Raises:
        InputError: if the shapes do not fit each other; the message names them.
    """

    query: Float[Tensor, "*h b d"]
    positive: Float[Tensor, "*h b d"]
    negatives: Float[Tensor, "*h k d"]
    index: Int[Tensor, " b"]
    negative_index: Int[Tensor, " k"] | Int[Tensor, "k 2"]
    view: Int[Tensor, " b"] | None = None
    placeholder: Bool[Tensor, " k"] | None = None
    excluded: Int[Tensor, "b m"] | None = None
    own_negatives: Float[Tensor, "*h b s d"] | None = None
    own_negative_index: Int[Tensor, "b s"] | None = None
    own_negative_kind: Int[Tensor, " s"] | None = None
    extra_positives: Float[Tensor, "*h b p d"] | None = None
    extra_positive_index: Int[Tensor, "b p"] | None = None
    own_negative_parents: Int[Tensor, "*h b s 2"] | None = None

    def __post_init__(self) -> None:
        given = {name: (getattr(self, name), hint) for name, hint in _fields().items()}
        tensors = all(isinstance(value, Tensor | None) for value, _ in given.values())
        if not tensors or min(self.query.ndim, self.negatives.ndim) < 2:
            check_tensors("Pairs", given)
        *heads, queries, width = self.query.shape
        count = self.negatives.shape[-2]
        expected = {
            "positive": (self.positive, (*heads, queries, width)),
            "negatives": (self.negatives, (*heads, count, width)),
            "index": (self.index, (queries,)),
            "negative_index": (self.negative_index, (count, *self.negative_index.shape[1:])),
        }
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != shape:
                raise InputError(
                    f"Pairs.{name} has shape {tuple(tensor.shape)} where query's {tuple(self.query.shape)} "
                    f"(*h b d) asks for {shape}"
                )
        if (self.own_negatives is None) != (self.own_negative_index is None):
            raise InputError("Pairs takes own_negatives and own_negative_index together, not one without the other")
        if (self.extra_positives is None) != (self.extra_positive_index is None):
            raise InputError("Pairs takes extra_positives and extra_positive_index together, not one without the other")
        check_tensors("Pairs", given)

    @checked
    def without(self, columns: Int[Tensor, "b m"]) -> Pairs:
        """Exclude more negatives: the pairs without these columns. Earlier exclusions stay.

        Args:
            columns: negatives to exclude for each query, (b, m), int64. Shared negatives come first, own negatives
                after them: column c is ``negatives[c]`` if c < k, and own negative c - k otherwise. -1 pads.

        Raises:
            InputError: for a column outside [-1, k + s) (checked on the CPU only).

        Example:
            >>> pairs = in_batch_pairs(torch.eye(3), torch.eye(3), torch.arange(3))
            >>> first = pairs.without(torch.tensor([[1]] * 6))
            >>> first.without(torch.tensor([[-1, 2]] * 6)).excluded[0]
            tensor([ 1, -1,  2])
        """
        shared, own = self.negatives.shape[-2], self.own_negative_index
        _require_columns(columns, shared, 0 if own is None else own.shape[1])
        excluded = torch.where(columns < shared, columns, -1)
        if self.excluded is not None:
            excluded = torch.cat([self.excluded, excluded], dim=1)
        if own is not None:
            gone = torch.zeros((len(own), 1 + own.shape[1]), dtype=torch.bool, device=own.device)
            place = torch.where(columns >= shared, columns - shared + 1, 0)
            own = own.masked_fill(gone.scatter(1, place, True)[:, 1:], NOT_OFFERED)
        return replace(self, excluded=excluded, own_negative_index=own)

    @checked
    def with_own(
        self,
        rows: Float[Tensor, "*h b s d"],
        index: Int[Tensor, "b s"],
        kind: Int[Tensor, " s"],
        parents: Int[Tensor, "*h b s 2"] | None = None,
    ) -> Pairs:
        """Add own negatives of each query, after its existing own negatives.

        Args:
            rows: the new rows of each query, (*h, b, s, d).
            index: the sample of each row, (b, s). -1 is unknown. -2 is padding, neither offered nor counted.
            kind: the kind of each row (MINED, PAIR_MIX, QUERY_MIX), (s,), for observers.
            parents: the samples that each row is made of, (*h, b, s, 2), for observers. -1 is unknown, or no second
                sample. None if each row is of the one sample in `index`.

        Raises:
            InputError: if the shapes do not fit the queries.
        """
        before = self.own_negative_index
        if self.own_negatives is not None and before is not None:
            if parents is not None or self.own_negative_parents is not None:
                earlier = _parents(self.own_negative_parents, before, rows)
                parents = torch.cat([earlier, _parents(parents, index, rows)], dim=-2)
            kinds = (
                kind.new_full((before.shape[1],), MINED) if self.own_negative_kind is None else self.own_negative_kind
            )
            rows, kind = torch.cat([self.own_negatives, rows], dim=-2), torch.cat([kinds, kind])
            index = torch.cat([before, index], dim=1)
        return replace(
            self, own_negatives=rows, own_negative_index=index, own_negative_kind=kind, own_negative_parents=parents
        )

    @checked
    def with_bank(self, offered: Sequence[Negatives]) -> Pairs:
        """Add a memory bank's negatives: shared rows and own rows, each after the existing ones.

        Earlier exclusions stay, because the columns of the existing shared negatives do not change.

        Args:
            offered: negatives from one bank, or from one bank per head in the order of the heads. All banks of a method
                hold the same samples.

        Raises:
            InputError: if the shapes do not fit the queries.
        """
        first, pairs = offered[0], self
        if first.keys.shape[-2]:
            pairs = replace(
                self,
                negatives=_behind(self.negatives, self._by_head([each.keys for each in offered]), dim=-2),
                negative_index=_behind(self.negative_index, first.index),
                placeholder=_behind(_marks(self), _marks(first)),
            )
        own = [each.own for each in offered if each.own is not None]
        if not own:
            return pairs
        rows, index = self._by_head(own), _agreed([each.own_index for each in offered if each.own_index is not None])
        return pairs.with_own(rows, index, torch.full((rows.shape[-2],), MINED, device=rows.device))

    def _by_head(self, rows: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(rows)) if self.query.ndim == 3 else rows[0]

    def detached(self) -> Pairs:
        """The same pairs without gradient, for observers."""
        tensors = {name: value.detach() for name, value in vars(self).items() if value is not None}
        return Pairs(**tensors)


def _require_columns(columns: Tensor, shared: int, own: int) -> None:
    """Refuse columns that are not negatives. A device is not checked, because the check would synchronise with it."""
    if columns.device.type != "cpu" or not columns.numel():
        return
    low, high = (int(each) for each in columns.aminmax())
    if low < -1 or high >= shared + own:
        raise InputError(
            f"Pairs.without got column {high if high >= shared + own else low} of {shared} shared and {own} own "
            f"negatives: give 0 to {shared + own - 1}, and -1 as padding"
        )


def _parents(parents: Tensor | None, index: Tensor, rows: Tensor) -> Tensor:
    """The samples that own negatives are made of; without a record of them, the one sample of each."""
    if parents is not None:
        return parents
    alone = torch.nn.functional.pad(index.clamp(min=UNKNOWN)[..., None], (0, 1), value=UNKNOWN)
    return alone.expand(*rows.shape[:-3], *alone.shape)


def _marks(rows: Pairs | Negatives) -> Tensor:
    index = rows.negative_index if isinstance(rows, Pairs) else rows.index
    return index.new_zeros(len(index), dtype=torch.bool) if rows.placeholder is None else rows.placeholder


def _behind(before: Tensor, rows: Tensor, dim: int = 0) -> Tensor:
    """Concatenate, or return `rows` if there is nothing before them: a bank has many rows, so a copy is avoided."""
    return torch.cat([before, rows.to(before.dtype)], dim=dim) if before.shape[dim] else rows


def _agreed(index: Sequence[Tensor]) -> Tensor:
    """Sample index of own negatives; unknown where the heads differ, because pairs keep one index for all heads."""
    # The banks have already excluded rows of the query's own sample, and every head has the same number of rows.
    every = torch.stack(list(index))
    return torch.where((every == every[0]).all(dim=0), every[0], UNKNOWN)


@functools.cache
def _fields() -> dict[str, tuple[Any, ...]]:
    return tensor_hints(Pairs)


@checked
def in_batch_pairs(z1: Float[Tensor, "*h n d"], z2: Float[Tensor, "*h n d"], index: Int[Tensor, " n"]) -> Pairs:
    """In-batch pairs of two views, as in SimCLR: 2N queries, with all rows of both views as shared negatives.

    Both directions are included: each view of a sample is the query once, and the other view is its positive. Query and
    positive are excluded from the negatives by their sample index. Each query therefore has the 2(N-1) negatives of
    SimCLR. With several processes, the negatives are the rows of all ranks, and the queries are the rows of this rank.
    Rows are not normalised here: give unit rows.

    Args:
        z1: unit embeddings of the first view, (*h, n, d).
        z2: unit embeddings of the second view, (*h, n, d).
        index: the training sample of each row, (n,).

    Raises:
        InputError: for a negative sample index (checked on the CPU only).

    Source: SimCLR, Chen et al., ICML 2020, arXiv 2002.05709, eq. 1.

    Example:
        >>> z = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
        >>> pairs = in_batch_pairs(z, z, torch.arange(4))
        >>> pairs.query.shape, pairs.negatives.shape
        (torch.Size([8, 8]), torch.Size([8, 8]))
    """
    _require_samples("in_batch_pairs", index)
    query = torch.cat([z1, z2], dim=-2)
    both = torch.cat([index, index])
    negatives, negative_index = _gather_rows(query), gather_detached(both)
    view = torch.zeros_like(both)
    view[len(index) :] = 1
    return Pairs(query, torch.cat([z2, z1], dim=-2), negatives, both, negative_index, view=view)


@checked
def queue_pairs(
    query: Float[Tensor, "*h b d"],
    key: Float[Tensor, "*h b d"],
    keys: Float[Tensor, "*h k d"],
    index: Int[Tensor, " b"],
    key_index: Int[Tensor, " k"],
    placeholder: Bool[Tensor, " k"] | None = None,
    view: int = 0,
) -> Pairs:
    """Pairs against a key queue, as in MoCo: the positive of each query is its key, the negatives are the queue's keys.

    The pairs have one direction. Keys of the query's own sample are excluded by their sample index.

    Args:
        query: unit queries, (*h, b, d), with gradient.
        key: unit keys of the same samples, (*h, b, d); used without gradient.
        keys: rows of the queue, (*h, k, d), read before this step's keys are stored; used without gradient.
        index: the training sample of each query, (b,).
        key_index: the training sample of each row of the queue, (k,). -1 is unknown.
        placeholder: True for rows that belong to the queue's random start rather than to a sample, (k,).
        view: the view of the queries. It keys their random numbers.

    Raises:
        InputError: for a negative sample index (checked on the CPU only).

    Source: MoCo, He et al., CVPR 2020, arXiv 1911.05722, eq. 1.
    """
    _require_samples("queue_pairs", index)
    views = torch.full_like(index, view)
    return Pairs(query, key.detach(), keys.detach(), index, key_index, view=views, placeholder=placeholder)


@checked
def cross_pairs(
    query: Float[Tensor, "*h n d"], positive: Float[Tensor, "*h n d"], index: Int[Tensor, " n"], view: int = 0
) -> Pairs:
    """Pairs across two sets of rows, as in MoCo v3 and NNCLR: the negatives are the other samples' positives.

    The pairs have one direction. The negatives come from all processes. With InfoNCE, the loss is the cross-entropy
    over the N positives of a batch. Gradient reaches the positives of every process if they carry one.

    Args:
        query: unit rows, (*h, n, d).
        positive: unit rows of the same samples, (*h, n, d).
        index: the training sample of each row, (n,).
        view: the view of the queries. It keys their random numbers.

    Raises:
        InputError: for a negative sample index (checked on the CPU only).

    Source: NNCLR, Dwibedi et al., ICCV 2021, arXiv 2104.14548, eq. 4; MoCo v3, Chen et al., ICCV 2021, arXiv
    2104.02057, algorithm 1.

    Example:
        >>> rows = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1)
        >>> cross_pairs(rows[0], rows[1], torch.arange(4)).negatives.shape
        torch.Size([4, 8])
    """
    _require_samples("cross_pairs", index)
    views = torch.full_like(index, view)
    return Pairs(query, positive, _gather_rows(positive), index, gather_detached(index), view=views)


def negative_free_pairs(
    query: Float[Tensor, "*h n d"], positive: Float[Tensor, "... n d"], index: Int[Tensor, " n"], view: int = 0
) -> Pairs:
    """Pairs without negatives, in one direction, as in SimSiam and BYOL.

    Args:
        query: the queries, (*h, n, d).
        positive: rows of the same samples, (*h, n, d), or (n, d) for all heads.
        index: the training sample of each row, (n,).
        view: the view of the queries. It keys their random numbers.

    Example:
        >>> negative_free_pairs(torch.zeros(3, 4, 8), torch.zeros(4, 8), torch.arange(4)).positive.shape
        torch.Size([3, 4, 8])
    """
    none = query.new_zeros((*query.shape[:-2], 0, query.shape[-1]))
    views = torch.full_like(index, view)
    return Pairs(query, positive.expand_as(query), none, index, index.new_zeros(0), view=views)


def _require_samples(owner: str, index: Tensor) -> None:
    """Refuse queries of unknown samples, whose own rows would be among their negatives.

    Only the CPU is checked: on a device the check would need a synchronisation.
    """
    if index.device.type == "cpu" and bool((index < 0).any()):
        raise InputError(f"{owner}: index has {int(index.min())}, and must be numbers of samples, from 0 on")


def _gather_rows(rows: Tensor) -> Tensor:
    """Gather along the row axis of all processes; the row axis is axis 0 only without heads."""
    if rows.ndim == 2 or world_size() == 1:  # the same tensor, so that a loss can recognise it
        return gather(rows)
    return gather(rows.transpose(0, -2)).transpose(0, -2)
