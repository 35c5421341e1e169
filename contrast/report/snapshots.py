"""Histograms of scores, out of the rows of scores.jsonl."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from contrast.records import last_row_per_step
from contrast.report.numbers import is_number, number

__all__ = ["SOME_NEGATIVES", "ScoreSummary", "Snapshot", "read_snapshots"]

SOME_NEGATIVES = ("hardest", "same_class", "mined", "pair_mix", "query_mix", "synthetic", "own")
"""Histograms of scores.jsonl that are of some negatives."""


@dataclass(frozen=True)
class ScoreSummary:
    """One histogram of scores (cosine similarities before the temperature) with the scores' own mean and std."""

    counts: list[int]
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Snapshot:
    """The scores of one training step; a side is None where the method has no such pairs.

    Args:
        step: from 1.
        epoch: from 0.
        positive: of each query with its positive.
        negative: with all its negatives.
        some: with some of its negatives, by the names in scores.jsonl; without those that it has none of.
    """

    step: int
    epoch: int | None
    positive: ScoreSummary | None
    negative: ScoreSummary | None
    some: dict[str, ScoreSummary] = field(default_factory=dict)


def read_snapshots(rows: list[dict[str, Any]], notes: list[str]) -> tuple[list[float], list[Snapshot]]:
    """The bins' edges and the histograms in order of step; a note where there are none."""
    edges = next((_edges(row["edges"]) for row in rows if "edges" in row), [])
    whole = [row for row in rows if is_number(row.get("step"))]
    snapshots = [_snapshot(row, len(edges) - 1) for row in last_row_per_step(whole)] if edges else []
    seen = [snapshot for snapshot in snapshots if snapshot.positive or snapshot.negative]
    if not seen:
        notes.append("scores.jsonl has no histograms: no score densities and no separation.")
    return edges, seen


def _edges(value: Any) -> list[float]:
    rising = isinstance(value, list) and all(map(is_number, value)) and value == sorted(set(value))
    return [float(edge) for edge in value] if rising else []


def _snapshot(row: dict[str, Any], bins: int) -> Snapshot:
    epoch = number(row.get("epoch"))
    return Snapshot(
        step=int(row["step"]),
        epoch=None if epoch is None else int(epoch),
        positive=_side(row.get("positive"), bins),
        negative=_side(row.get("negative"), bins),
        some={name: side for name in SOME_NEGATIVES if (side := _side(row.get(name), bins))},
    )


def _side(value: Any, bins: int) -> ScoreSummary | None:
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(counts, list) or len(counts) != bins or not all(map(is_number, counts)) or not sum(counts) > 0:
        return None
    return ScoreSummary([int(count) for count in counts], number(value.get("mean")), number(value.get("std")))
