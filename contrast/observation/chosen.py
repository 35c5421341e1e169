"""A part of a direction's queries, the same whatever the number of processes."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.distributed import gather_detached
from contrast.pairs import Pairs
from contrast.randomness import Purpose, uniform

__all__ = ["draws", "some_queries"]

_BY_QUERY = {  # which axis, from the end, the queries are
    "query": -2,
    "positive": -2,
    "index": -1,
    "view": -1,
    "excluded": -2,
    "own_negatives": -3,
    "own_negative_index": -2,
    "own_negative_parents": -3,
    "extra_positives": -3,
    "extra_positive_index": -2,
}


def some_queries(
    pairs: Pairs, most: int | None, together: bool = True, draw: Float[Tensor, " b"] | None = None
) -> Pairs:
    """The pairs of at most so many queries of all processes, which ones depends on their sample and view alone.

    Args:
        pairs: of one direction.
        most: queries that are kept; None keeps all.
        together: of all processes, each of which is to ask then; else of this one.
        draw: what `draws` gives for them, where it is there already.
    """
    if most is None:
        return pairs
    draw = draws(pairs.index, pairs.view) if draw is None else draw
    everyone = gather_detached(draw) if together else draw
    if len(everyone) <= most:
        return pairs
    return _taken(pairs, (draw <= everyone.kthvalue(most).values).nonzero().flatten())


def draws(index: Int[Tensor, " b"], view: Int[Tensor, " b"] | None = None) -> Float[Tensor, " b"]:
    """A number for each query, of its sample and view alone: those of the lowest are looked at."""
    both = uniform((Purpose.OBSERVED_ROWS,), index, 2).double()
    side = torch.zeros_like(index) if view is None else view
    return both.gather(1, side[:, None].clamp(max=1))[:, 0]


def _taken(pairs: Pairs, rows: Int[Tensor, " n"]) -> Pairs:
    fields = {name: getattr(pairs, name) for name in _BY_QUERY}
    kept = {name: each.index_select(_BY_QUERY[name], rows) for name, each in fields.items() if each is not None}
    return dataclasses.replace(pairs, **kept)
