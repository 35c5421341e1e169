"""Which negatives are hard, and which of them the gradient falls on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.report.curves import RANK_AXIS, extend, numbers_at, rank_labels, settled, some_of
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, heat_chart, kinds_chart
from contrast.report.lines import Axis
from contrast.report.run_record import RunRecord

__all__ = ["hardness_profile"]

NAME, TITLE = "hardness-profile", "Negatives by hardness"
READING = (
    "Each query's negatives, ranked by score. Left: how similar the negatives at a rank are. Right: which share of the "
    "query's gradient falls on them; the last group is all that are left, and often most of the gradient. A low "
    "temperature moves it to the first ranks."
)
REASON = "No row of scores.jsonl ranks negatives: the method has none, or the run was recorded before rows had ranks."
KINDS = (Kind("first row", "negative-2"), Kind("half-way", "negative-3"), Kind("last tenth", "negative-mean"))


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
    rank, score = Axis("rank", RANK_AXIS, ""), Axis("score", "mean score", "~g")
    share = Axis("gradient", "share of the gradient", ".0%", zero=True)
    charts = [
        Chart("hardness-score", kinds_chart("profile", rank, score, names, kinds, ordinal=labels), "Score by rank"),
        Chart(
            "hardness-gradient", kinds_chart("profile", rank, share, names, kinds, ordinal=labels), "Gradient by rank"
        ),
    ]
    cells = {place: found for place, (run, rows) in enumerate(ranked) if (found := _cells(run, rows))}
    tables = {"profile": table} | {f"cells{place}": found for place, found in cells.items()}
    for place in cells:
        label = "Share of the gradient over training" + (f": {ranked[place][0].name}" if len(runs) > 1 else "")
        drawn = heat_chart(f"cells{place}", rank, share, labels, list(cells.values()))
        charts.append(Chart(f"hardness-map-{place}", drawn, label))
    notes = [f"{run.name}: no ranked negatives." for run in runs if run.name not in table["run"]]
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
        for place, value in enumerate(score[: len(labels)]):
            share = gradient[place] if place < len(gradient) else None
            extend(table, run=run.name, kind=kind, rank=labels[place], score=value, gradient=share)


def _cells(run: RunRecord, rows: Sequence[dict[str, Any]]) -> Table:
    labels, shown = rank_labels(run.header), some_of(rows)
    table: Table = {}
    for at, row in enumerate(shown):
        start, end = edges(shown, at)
        for place, value in enumerate(numbers_at(row, "hardness", "gradient")[: len(labels)]):
            if value is not None:
                extend(table, **{"from": start}, to=end, step=row["step"], rank=labels[place], gradient=value)
    return table


def edges(rows: Sequence[dict[str, Any]], at: int) -> tuple[float, float]:
    """Where a row's column of a heat map starts and ends: half-way to its neighbours."""
    step = rows[at]["step"]
    start = (rows[at - 1]["step"] + step) / 2 if at else step
    end = (rows[at + 1]["step"] + step) / 2 if at + 1 < len(rows) else step + (0 if at else 1)
    return float(start), float(end)
