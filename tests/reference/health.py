"""What a row of ``scores.jsonl`` holds of queries, positives and embeddings, by loops that ask for no negative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from contrast import Pairs
from tests.reference.observation import histogram, mean


def positives_of(directions: Sequence[Pairs]) -> dict[str, Any]:
    """The histogram of cosines of queries and positives."""
    both = [pair for pairs in directions for pair in zip(pairs.query.tolist(), pairs.positive.tolist(), strict=True)]
    return histogram([inner(q, p) / math.sqrt(inner(q, q) * inner(p, p)) for q, p in both])


def health_of(directions: Sequence[Pairs]) -> dict[str, float]:
    """Of the queries of all directions; distances are those of the rows as the loss saw them."""
    queries = [row for pairs in directions for row in pairs.query.tolist()]
    positives = [row for pairs in directions for row in pairs.positive.tolist()]
    samples = [sample for pairs in directions for sample in pairs.index.tolist()]
    unit = [[x / math.sqrt(inner(row, row)) for x in row] for row in queries]
    apart = [
        math.exp(-2 * squared(unit[i], unit[j]))
        for i in range(len(unit))
        for j in range(len(unit))
        if samples[i] != samples[j]
    ]
    return {
        "alignment": mean([squared(q, p) for q, p in zip(queries, positives, strict=True)]),
        "uniformity": math.log(mean(apart)),
        "width": len(queries[0]),
    }


def rank_of(rows: Tensor) -> float:
    """exp of the entropy of the singular values' shares."""
    values = torch.linalg.svdvals(rows.double()).tolist()
    return math.exp(-sum(v / sum(values) * math.log(v / sum(values)) for v in values if v > 0))


def inner(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def squared(a: list[float], b: list[float]) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
