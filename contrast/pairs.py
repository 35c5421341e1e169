"""The record that a method hands to a loss: queries, their positives and the negatives offered to them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
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
    "Pairs",
    "cross_pairs",
    "in_batch_pairs",
    "queue_pairs",
]

UNKNOWN = -1
"""A negative of no known sample: equal to nothing, hence never left out."""
NOT_OFFERED = -2
"""An own negative that is no row at all: neither offered nor counted."""
MINED, PAIR_MIX, QUERY_MIX = range(3)
"""Kinds of own negatives: a real row, a mix of two negatives, a mix of the query with a negative."""


@dataclass(frozen=True)
class Pairs:
    """Queries with their positives and negatives; axes h heads (absent if one), b queries, k, s, d width.

    A shared negative that is made of the query's own sample is never a negative: a loss compares `index` with
    `negative_index`, and no (b, k) mask is stored.

    Attributes:
        query: (*h, b, d), unit rows for losses that ask for them.
        positive: (*h, b, d), the positive of each query.
        negatives: (*h, k, d), offered to every query.
        index: (b,), which training sample each query is of.
        negative_index: (k,) or (k, 2), of which sample or samples each shared negative is made; -1 is unknown.
        view: (b,), which view the query is; it keys the query's random numbers.
        placeholder: (k,), shared negatives that are no sample's embedding, such as a queue's random start: they are
            offered and counted, but never mined.
        excluded: (b, m), columns of `negatives` that this query leaves out; -1 pads.
        own_negatives: (*h, b, s, d), mined or made for one query alone.
        own_negative_index: (b, s); -1 is unknown, -2 is no row: neither offered nor counted.
        own_negative_kind: (s,), what each own negative is (MINED, PAIR_MIX, QUERY_MIX), for observers.
        own_negative_parents: (*h, b, s, 2), the samples that each own negative is made of, for observers; -1 where
            unknown or no other; None where `own_negative_index` says it all.
        extra_positives: (*h, b, p, d), further positives of each query.
        extra_positive_index: (b, p), which sample each is of; -1 is unknown, -2 is no row.

    Raises:
        InputError: where the shapes do not belong together; it names them.
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

    def detached(self) -> Pairs:
        """The same pairs without gradient, for observers."""
        tensors = {name: value.detach() for name, value in vars(self).items() if value is not None}
        return Pairs(**tensors)


@functools.cache
def _fields() -> dict[str, tuple[Any, ...]]:
    return tensor_hints(Pairs)


@checked
def in_batch_pairs(z1: Float[Tensor, "*h n d"], z2: Float[Tensor, "*h n d"], index: Int[Tensor, " n"]) -> Pairs:
    """Both directions of two views of a batch: 2N queries, and every row of both views as shared negatives.

    Query and positive are left out of the negatives by index, so that each query has the 2(N-1) negatives of SimCLR
    (Chen et al., ICML 2020, arXiv 2002.05709, eq. 1). With several processes the negatives are all ranks' rows and
    the queries this rank's. Rows are taken as they are: give unit rows.

    Args:
        z1, z2: unit embeddings of the two views, (*h, n, d).
        index: which sample each row is of, (n,).

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
    """One direction against a queue: each query's positive is its key, the negatives are the queue's keys.

    Source: MoCo, He et al., CVPR 2020, arXiv 1911.05722, eq. 1. Keys of a query's own sample are left out by index.

    Args:
        query: unit queries, (*h, b, d), with gradient.
        key: unit keys of the same samples, (*h, b, d); used without gradient.
        keys: the queue's rows, (*h, k, d), read before this step's keys are stored; used without gradient.
        index: which sample each query is of, (b,).
        key_index: which sample each queue row is of, (k,); -1 is unknown.
        placeholder: which queue rows are no sample's key but the queue's random start, (k,).
        view: which view the queries are; it keys their random numbers.
    """
    _require_samples("queue_pairs", index)
    views = torch.full_like(index, view)
    return Pairs(query, key.detach(), keys.detach(), index, key_index, view=views, placeholder=placeholder)


@checked
def cross_pairs(
    query: Float[Tensor, "*h n d"], positive: Float[Tensor, "*h n d"], index: Int[Tensor, " n"], view: int = 0
) -> Pairs:
    """One direction across two sets of rows: each query's negatives are the other samples' positives, of all processes.

    With InfoNCE this is the cross-entropy over the N positives of a batch, as in NNCLR (Dwibedi et al., ICCV 2021,
    arXiv 2104.14548, eq. 4) and MoCo v3 (Chen et al., ICCV 2021, arXiv 2104.02057, algorithm 1). Gradient reaches
    the positives of every process where they carry one.

    Args:
        query: unit rows, (*h, n, d).
        positive: unit rows of the same samples, (*h, n, d).
        index: which sample each row is of, (n,).
        view: which view the queries are; it keys their random numbers.

    Example:
        >>> rows = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1)
        >>> cross_pairs(rows[0], rows[1], torch.arange(4)).negatives.shape
        torch.Size([4, 8])
    """
    _require_samples("cross_pairs", index)
    views = torch.full_like(index, view)
    return Pairs(query, positive, _gather_rows(positive), index, gather_detached(index), view=views)


def _require_samples(owner: str, index: Tensor) -> None:
    """Refuse queries of no known sample, whose own rows would be their negatives; on a device nobody looks."""
    if index.device.type == "cpu" and bool((index < 0).any()):
        raise InputError(f"{owner}: index has {int(index.min())}, and must be numbers of samples, from 0 on")


def _gather_rows(rows: Tensor) -> Tensor:
    """Gather along the row dimension, which is dimension 0 only where there are no heads."""
    if rows.ndim == 2 or world_size() == 1:  # the very tensor, which a loss that meets it twice can tell
        return gather(rows)
    return gather(rows.transpose(0, -2)).transpose(0, -2)
