"""How many negatives are of the query's own class, by hardness and over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.report.courses import Course, Line
from contrast.report.curves import RANK_AXIS, curve, extend, numbers_at, rank_labels, settled, value_at
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, kinds_chart
from contrast.report.lines import Axis
from contrast.report.run_record import RunRecord

__all__ = ["false_negatives"]

NAME, TITLE = "false-negatives", "False negatives"
READING = (
    "Negatives of the query's own class, as far as labels tell; no loss saw a label. Left: their share by "
    "hardness rank, each kind ranked among its like, in the last tenth of the rows, against what training samples "
    "taken at random would have. Right: over training, their share of all negatives, of the hardest one, and of the "
    "gradient, which is what pushes samples of one class apart; the first beside that of random samples."
)
REASON = "No row of scores.jsonl knows classes: the data have no labels, or the method has no negatives."
SOURCES = {
    "all": Kind("all negatives", "negative"),
    "shared": Kind("of the batch or queue", "run-0"),
    "mined": Kind("mined from a bank", "run-2"),
    "mixed": Kind("mixes, by their parents", "run-3"),
}
KINDS = ("shared", "mined", "mixed")
RANDOM = Kind("at random", "muted")
COURSE = Course(
    "course",
    "Over training",
    "share of the query's class",
    (
        Line("of all negatives", ("false_negatives", "all"), "run-0"),
        Line("at random", ("false_negatives", "random"), "muted"),
        Line("of the hardest", ("hardness", "same_class", "all"), "negative", 0),
        Line("of the gradient", ("gradient", "same_class"), "run-3"),
    ),
    ".0%",
    zero=True,
)


def false_negatives(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Share by rank at the end, and over training."""
    ranks: Table = {}
    for run in runs:
        _add_ranks(ranks, run, alone=len(runs) == 1)
    if not ranks:
        return Missing(NAME, TITLE, REASON)
    names = [run.name for run in runs]
    labels = max((rank_labels(run.header) for run in runs), key=len)
    kinds = [kind for kind in (*SOURCES.values(), RANDOM) if kind.name in ranks["kind"]]
    rank, share = Axis("rank", RANK_AXIS, ""), Axis("share", "share of the query's class", ".0%", zero=True)
    spec = kinds_chart("ranks", rank, share, names, kinds, ordinal=labels)
    charts, tables = [Chart("false-by-rank", spec, "By hardness rank")], {"ranks": ranks}
    said = COURSE.add(runs, charts, tables)
    notes = (*(f"{run.name}: no labels, or no negatives." for run in runs if run.name not in ranks["run"]), *said)
    return Figure(NAME, TITLE, READING, tuple(charts), tables, notes)


def _add_ranks(table: Table, run: RunRecord, alone: bool) -> None:
    labels = rank_labels(run.header)
    rows = [row for row in run.observed if isinstance(value_at(row, "hardness", "same_class"), dict)]
    others = [
        name
        for name in ("shared", "mined", "mixed")
        if any(numbers_at(row, "hardness", "same_class", name) for row in rows)
    ]
    # Of one kind alone, all negatives are that kind; and several runs are compared by all of theirs.
    shown = others if alone and len(others) > 1 else []
    for name in ("all", *shown):
        values = settled(rows, "hardness", "same_class", name)
        for label, value in zip(labels, values, strict=False):
            extend(table, run=run.name, kind=SOURCES[name].name, rank=label, share=value)
    chance = _chance(rows)
    if chance is not None and labels:
        longest = max(len(numbers_at(row, "hardness", "same_class", "all")) for row in rows)
        for label in labels[:longest]:
            extend(table, run=run.name, kind=RANDOM.name, rank=label, share=chance)


def _chance(rows: Sequence[dict[str, Any]]) -> float | None:
    """Of samples at random; of the batch's or queue's in a run that was recorded before rows said so."""
    for name in ("random", "shared"):
        found = [value for _, value in curve(rows, "false_negatives", name)]
        if found:
            some = found[-max(1, len(found) // 10) :]
            return sum(some) / len(some)
    return None
