"""Which negatives are hard, and which of them the gradient falls on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contrast.report.curves import (
    RANK_AXIS,
    extend,
    numbers_at,
    per_negative,
    rank_labels,
    settled,
    sizes_of_groups,
    some_of,
    value_at,
)
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, clipped_cells, heat_chart, kinds_chart
from contrast.report.lines import Axis
from contrast.report.numbers import number
from contrast.report.run_record import RunRecord

__all__ = ["hardness_profile"]

NAME, TITLE = "hardness-profile", "Negatives by hardness"
READING = (
    "Each query's negatives, ranked by score. Left: how similar the negatives at a rank are. Right: which share of the "
    "query's gradient falls on one of them, as a mean over the ranks of a group; dashed, if it fell on all negatives "
    "alike. A low temperature moves it to the first ranks. Groups have 1, 1, 2, 4 … 64 ranks, and the last one all "
    "that are left: their sums are in the CSV."
)
REASON = "No row of scores.jsonl ranks negatives: the method has none, or the run was recorded before rows had ranks."
KINDS = (Kind("first row", "negative-2"), Kind("half-way", "negative-3"), Kind("last tenth", "negative-mean"))
ALIKE = Kind("on all alike", "muted", dashed=True)


def hardness_profile(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Score and gradient share by rank group, at the start, half-way and at the end, and the share over training."""
    ranked = [(run, rows) for run in runs if (rows := _ranked(run))]
    if not ranked:
        return Missing(NAME, TITLE, REASON)
    names = [run.name for run in runs]
    labels = max((rank_labels(run.header) for run, _ in ranked), key=len)
    table: Table = {}
    for run, rows in ranked:
        _add(table, run, rows, alone=len(runs) == 1)
    kinds = KINDS if len(runs) == 1 else KINDS[-1:]
    shares = {name: list(column) for name, column in table.items()}
    alike = [run for run, _ in ranked if len(runs) == 1]
    for run in alike:
        _add_alike(shares, run, ranked[0][1])
    rank, score = Axis("rank", RANK_AXIS, ""), Axis("score", "mean score", "~g")
    share = Axis("per_negative", "share of the gradient per negative", ".3~%", log=True)
    of_share = [*kinds, *([ALIKE] if ALIKE.name in shares["kind"] else [])]
    charts = [
        Chart("hardness-score", kinds_chart("profile", rank, score, names, kinds, ordinal=labels), "Score by rank"),
        Chart(
            "hardness-gradient",
            kinds_chart("shares", rank, share, names, of_share, ordinal=labels),
            "Gradient on one negative, by rank",
        ),
    ]
    cells = {place: found for place, (run, rows) in enumerate(ranked) if (found := _cells(run, rows))}
    tables = {"profile": table, "shares": shares} | {f"cells{place}": found for place, found in cells.items()}
    for place in cells:
        label = "Share of the gradient per negative over training" + (
            f": {ranked[place][0].name}" if len(runs) > 1 else ""
        )
        drawn = heat_chart(
            f"cells{place}", rank, replace(share, title="share per negative"), labels, list(cells.values())
        )
        charts.append(Chart(f"hardness-map-{place}", drawn, label))
    notes = [f"{run.name}: no ranked negatives." for run in runs if run.name not in table["run"]]
    notes += [note for run in runs for note in run.start_notes]
    if cells:
        notes += clipped_cells(share, {ranked[place][0].name: found for place, found in cells.items()})
    return Figure(NAME, TITLE, READING, tuple(charts), tables, tuple(notes))


def _ranked(run: RunRecord) -> list[dict[str, Any]]:
    return [row for row in run.observed if numbers_at(row, "hardness", "score")] if rank_labels(run.header) else []


def _add(table: Table, run: RunRecord, rows: Sequence[dict[str, Any]], alone: bool) -> None:
    labels = rank_labels(run.header)
    moments = {KINDS[2].name: rows}
    if alone and len(rows) > 2:
        moments = {KINDS[0].name: rows[:1], KINDS[1].name: rows[: len(rows) // 2 + 1][-1:], **moments}
    for kind, some in moments.items():
        score, gradient = settled(some, "hardness", "score"), settled(some, "hardness", "gradient")
        alone_share = per_negative(gradient, run.header, _negatives(some))
        for place, value in enumerate(score[: len(labels)]):
            share = gradient[place] if place < len(gradient) else None
            one = alone_share[place] if place < len(alone_share) else None
            # A logarithmic axis has no zero.
            extend(
                table,
                run=run.name,
                kind=kind,
                rank=labels[place],
                score=value,
                gradient=share,
                per_negative=one or None,
            )


def _add_alike(table: Table, run: RunRecord, rows: Sequence[dict[str, Any]]) -> None:
    count = _negatives(rows)
    if count:
        for label, size in zip(rank_labels(run.header), sizes_of_groups(run.header, count), strict=False):
            if size >= 0.5:
                one = {"score": None, "gradient": size / count, "per_negative": 1 / count}
                extend(table, run=run.name, kind=ALIKE.name, rank=label, **one)


def _negatives(rows: Sequence[dict[str, Any]]) -> float | None:
    """How many negatives a query has, as a mean over the last tenth of the rows."""
    found = [
        value for row in rows[-max(1, len(rows) // 10) :] if (value := number(value_at(row, "gradient", "negatives")))
    ]
    return sum(found) / len(found) if found else None


def _cells(run: RunRecord, rows: Sequence[dict[str, Any]]) -> Table:
    labels, shown = rank_labels(run.header), some_of(rows)
    table: Table = {}
    for at, row in enumerate(shown):
        start, end = edges(shown, at)
        shares = numbers_at(row, "hardness", "gradient")[: len(labels)]
        for place, value in enumerate(per_negative(shares, run.header, _negatives([row]))):
            if value is not None:
                extend(table, **{"from": start}, to=end, step=row["step"], rank=labels[place], per_negative=value)
    return table


def edges(rows: Sequence[dict[str, Any]], at: int) -> tuple[float, float]:
    """Where a row's column of a heat map starts and ends: half-way to its neighbours."""
    step = rows[at]["step"]
    start = (rows[at - 1]["step"] + step) / 2 if at else step
    end = (rows[at + 1]["step"] + step) / 2 if at + 1 < len(rows) else step + (0 if at else 1)
    return float(start), float(end)
