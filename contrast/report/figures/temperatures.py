"""What the temperature is, and for which scores it is what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.report.courses import Course, Line
from contrast.report.curves import extend, numbers_at, value_at
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, kinds_chart
from contrast.report.lines import Axis
from contrast.report.numbers import number, short
from contrast.report.run_record import RunRecord

__all__ = ["temperatures"]

NAME, TITLE = "temperatures", "Temperature"
READING = (
    "The temperature that scores are divided by: low ones let the hardest negatives decide. An adaptive one has a"
    " value for every pair and head: its mean over training, its spread over the pairs of a step, how it goes "
    "with the score (a correlation of 1: the more alike a pair, the softer), and its mean by score in the last "
    "row."
)
REASON = "scores.jsonl has no temperature: the loss has none, or the run was recorded before rows had it."
SIDES = {"positive": "positives", "negative": "negatives"}
COLOURS = {
    "positive": ("positive", "positive-3", "positive-2", "positive-mean"),
    "negative": ("negative", "negative-3", "negative-2", "negative-mean"),
}


def temperatures(runs: Sequence[RunRecord]) -> Figure | Missing:
    """A single temperature's value, or an adaptive one's means, spreads and relation to scores."""
    values = {run.name: [number(value_at(row, "temperature", "value")) for row in run.observed] for run in runs}
    heads = max((len(_heads(row)) for run in runs for row in run.observed[-1:]), default=0)
    fixed = {name: some[0] for name, some in values.items() if some and len(set(some)) == 1}
    if not heads and fixed and len(fixed) == len(runs) and None not in fixed.values():
        said = ", ".join(f"{name}: τ = {short(value)}" for name, value in fixed.items() if value is not None)
        return Missing(NAME, TITLE, f"Fixed throughout. {said}.")
    charts: list[Chart] = []
    tables: dict[str, Table] = {}
    lines = _lines(heads, "mean")
    course = Course("temperature", "Mean", "temperature τ", (Line("τ", ("temperature", "value"), "ink"), *lines))
    notes = [*course.add(runs, charts, tables)]
    if heads:
        _add_by_score(runs, charts, tables)
        spread = Course("spread", "Spread over pairs", "standard deviation of τ", _lines(heads, "std"), zero=True)
        relation = Course(
            "correlation", "Relation to scores", "correlation of τ and score", _lines(heads, "correlation")
        )
        notes += [*spread.add(runs, charts, tables), *relation.add(runs, charts, tables)]
    if not charts:
        return Missing(NAME, TITLE, REASON)
    return Figure(NAME, TITLE, READING, tuple(charts), tables, tuple(notes))


def _lines(heads: int, key: str) -> tuple[Line, ...]:
    return tuple(
        Line(_name(head, side), ("temperature", "heads", str(head), side, key), COLOURS[side][head % 4])
        for head in range(heads)
        for side in SIDES
    )


def _name(head: int, side: str) -> str:
    return f"head {head + 1}, {SIDES[side]}"


def _heads(row: dict[str, Any]) -> list[dict[str, Any]]:
    heads = value_at(row, "temperature", "heads")
    return [head if isinstance(head, dict) else {} for head in heads] if isinstance(heads, list) else []


def _add_by_score(runs: Sequence[RunRecord], charts: list[Chart], tables: dict[str, Table]) -> None:
    table: Table = {}
    for run in runs:
        for row in run.observed[-1:]:
            for head, sides in enumerate(_heads(row)):
                for side in SIDES:
                    found = numbers_at(sides, side, "by_score")
                    for place, value in enumerate(found):
                        if value is not None:
                            middle = -1 + (2 * place + 1) / len(found)
                            extend(table, run=run.name, kind=_name(head, side), score=middle, value=value)
    if table:
        tables["by_score"] = table
        kinds = [Kind(line.name, line.colour) for line in _lines(4, "mean") if line.name in table["kind"]]
        x, y = Axis("score", "score (cosine similarity)", "~g"), Axis("value", "mean temperature τ", "~g")
        spec = kinds_chart("by_score", x, y, [run.name for run in runs], kinds)
        charts.append(Chart("by-score", spec, "By score, in the last row"))
