"""Pairs: the record that a method gives to a loss, with queries, positives, negatives and their sample indices."""

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
"""Index of a negative of no known sample: it equals no other index, so the negative is never excluded by index."""
NOT_OFFERED = -2
"""Index of padding among the own negatives: it is not a row, and is neither offered nor counted."""
MINED, PAIR_MIX, QUERY_MIX = range(3)
"""Kinds of own negatives: a real row, a mix of two negatives, a mix of the query and a negative."""


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

    def detached(self) -> Pairs:
        """The same pairs without gradient, for observers."""
        tensors = {name: value.detach() for name, value in vars(self).items() if value is not None}
        return Pairs(**tensors)


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
