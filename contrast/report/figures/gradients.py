"""Report figures on gradients: shares by negative, coupling multiplier and temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.report.chart_kinds import Kind, clipped_cells, heat_chart, kinds_chart
from contrast.report.charts import Axis, Chart, Figure, Missing, Table
from contrast.report.curves import Band, Course, Line, extend, numbers_at, some_of, value_at
from contrast.report.figures.negatives import edges
from contrast.report.numbers import number, short
from contrast.report.run_record import RunRecord

__all__ = ["coupling", "gradient_shares", "temperatures"]

GRADIENT_SHARES_NAME, GRADIENT_SHARES_TITLE = "gradient-shares", "Gradient shares of the negatives"
GRADIENT_SHARES_READING = (
    "Computed in closed form from the logits, before weighting. The effective number of negatives is exp(entropy) of "
    "their gradient shares (line: mean; band: the middle 90 % of queries; dashed: the number of negatives): near the "
    "dashed line all negatives have equal weight, near 1 a single negative decides. Next to it: the shares of the "
    "hardest negatives, of mixes and of false negatives. Pull and push coincide if the loss balances them, as InfoNCE "
    "does."
)
GRADIENT_SHARES_REASON = (
    "No row of scores.jsonl has gradients on negatives: the method has no negatives, or its loss gives no gradients."
)
PARTS = (
    Band(
        "effective",
        "Effective number of negatives",
        "negatives",
        ("gradient", "effective", "quantiles"),
        ("gradient", "effective", "mean"),
        ("gradient", "negatives"),
        log=True,
        most=True,
    ),
    Course(
        "shares",
        "Shares of the gradient on negatives",
        "share of the gradient",
        (
            Line("hardest", ("gradient", "top", "1"), "negative-mean"),
            Line("10 hardest", ("gradient", "top", "10"), "negative-3"),
            Line("100 hardest", ("gradient", "top", "100"), "negative-2"),
            Line("mixes", ("gradient", "synthetic"), "run-3"),
            Line("false negatives", ("gradient", "same_class"), "run-2"),
        ),
        ".0%",
        zero=True,
    ),
    Course(
        "forces",
        "Pull of the positive, push of all negatives",
        "mean |∂loss/∂logit|",
        (
            Line("pull", ("gradient", "pull"), "positive"),
            Line("push", ("gradient", "push"), "negative", dashed=True),
        ),
        zero=True,
    ),
)


def gradient_shares(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: effective number of negatives, gradient shares, and pull and push over training."""
    charts: list[Chart] = []
    tables: dict[str, Table] = {}
    said: list[str] = []
    for part in PARTS:
        said += part.add(runs, charts, tables)
    if not charts:
        return Missing(GRADIENT_SHARES_NAME, GRADIENT_SHARES_TITLE, GRADIENT_SHARES_REASON)
    there = {name for table in tables.values() for name in table["run"]}
    notes = [f"{run.name}: no gradients on negatives." for run in runs if run.name not in there]
    starts = [note for run in runs for note in run.start_notes]
    return Figure(
        GRADIENT_SHARES_NAME,
        GRADIENT_SHARES_TITLE,
        GRADIENT_SHARES_READING,
        tuple(charts),
        tables,
        (*notes, *starts, *said),
    )


COUPLING_NAME, COUPLING_TITLE = "coupling", "Coupling of positives and negatives"
COUPLING_READING = (
    "The factor Σ exp(l⁻) / (exp(l⁺) + Σ exp(l⁻)) of a query's gradient in InfoNCE, which exists because the positive "
    "is in the softmax denominator. At 1 it has no effect; easy positives, few negatives and a low temperature bring "
    "it towards 0, where the query stops learning. DCL has no such factor; for DCL the figure shows InfoNCE's factor."
)
COUPLING_REASON = "No row of scores.jsonl has this factor: the method has no negatives, or its loss gives no gradients."


def coupling(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: coupling of positives and negatives: distribution of the multiplier over queries, and its mean."""
    names = [run.name for run in runs]
    means: Table = {}
    cells = {place: found for place, run in enumerate(runs) if (found := _cells(run, means))}
    if not cells:
        return Missing(COUPLING_NAME, COUPLING_TITLE, COUPLING_REASON)
    tables = {"means": means} | {f"cells{place}": found for place, found in cells.items()}
    up = Axis("multiplier", "multiplier", "~g", low=0.0, high=1.0)
    density = Axis("density", "density", "~g")
    charts = []
    for place in cells:
        label = "Distribution over queries" + (f": {names[place]}" if len(runs) > 1 else "")
        drawn = heat_chart(f"cells{place}", up, density, None, list(cells.values()))
        charts.append(Chart(f"coupling-map-{place}", drawn, label))
    step, mean = Axis("step", "training step", ",d"), Axis("mean", "multiplier", "~g", low=0.0, high=1.0)
    kinds = [Kind("mean", "negative-mean"), Kind("5 % of queries below", "negative-2")]
    charts.append(Chart("coupling-mean", kinds_chart("means", step, mean, names, kinds), "Mean and lowest 5 %"))
    clipped = clipped_cells(density, {names[place]: found for place, found in cells.items()})
    starts = [note for run in runs for note in run.start_notes]
    return Figure(COUPLING_NAME, COUPLING_TITLE, COUPLING_READING, tuple(charts), tables, (*starts, *clipped))


def _cells(run: RunRecord, means: Table) -> Table:
    """Cells of the coupling heat map of a run; appends the run's means and lower quantiles to `means`."""
    bins = [edge for edge in numbers_at(run.header, "coupling_edges") if edge is not None]
    rows = [row for row in some_of(run.observed) if len(numbers_at(row, "coupling", "counts")) == len(bins) - 1]
    table: Table = {}
    for at, row in enumerate(rows):
        counts = [count or 0.0 for count in numbers_at(row, "coupling", "counts")]
        total = sum(counts)
        start, end = edges(rows, at)
        for place, count in enumerate(counts):
            if count and total:
                low, high = bins[place], bins[place + 1]
                density = count / total / (high - low)
                cell = {"step": row["step"], "multiplier": low, "high": high, "density": density}
                extend(table, **{"from": start}, to=end, **cell)
        for kind, value in (
            ("mean", number(value_at(row, "coupling", "mean"))),
            ("5 % of queries below", (numbers_at(row, "coupling", "quantiles") or [None, None])[1]),
        ):
            if value is not None:
                extend(means, run=run.name, kind=kind, step=row["step"], mean=value)
    return table


TEMPERATURES_NAME, TEMPERATURES_TITLE = "temperatures", "Temperature"
TEMPERATURES_READING = (
    "Scores are divided by the temperature: with a low temperature the hardest negatives decide. An adaptive "
    "temperature has a value for every pair and head. Shown are its mean over training, its spread over the pairs of "
    "a step, its correlation with the score (1: more similar pairs get higher temperatures), and its mean by score in "
    "the last row."
)
TEMPERATURES_REASON = (
    "scores.jsonl has no temperature: the loss has none, or an earlier version wrote the file without it."
)
SIDES = {"positive": "positives", "negative": "negatives"}
COLOURS = {
    "positive": ("positive", "positive-3", "positive-2", "positive-mean"),
    "negative": ("negative", "negative-3", "negative-2", "negative-mean"),
}


def temperatures(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: temperature over training and by score.

    A single temperature has one line. An adaptive temperature has a value for every pair and head; its mean, its
    standard deviation and its correlation with the scores are drawn.
    """
    values = {run.name: [number(value_at(row, "temperature", "value")) for row in run.observed] for run in runs}
    heads = max((len(_heads(row)) for run in runs for row in run.observed[-1:]), default=0)
    fixed = {name: some[0] for name, some in values.items() if some and len(set(some)) == 1}
    if not heads and fixed and len(fixed) == len(runs) and None not in fixed.values():
        said = ", ".join(f"{name}: τ = {short(value)}" for name, value in fixed.items() if value is not None)
        return Missing(TEMPERATURES_NAME, TEMPERATURES_TITLE, f"Fixed throughout. {said}.")
    charts: list[Chart] = []
    tables: dict[str, Table] = {}
    lines = _lines(heads, "mean")
    course = Course("temperature", "Mean", "temperature τ", (Line("τ", ("temperature", "value"), "ink"), *lines))
    notes = [*course.add(runs, charts, tables)]
    if heads:
        _add_by_score(runs, charts, tables)
        spread = Course("spread", "Spread over pairs", "standard deviation of τ", _lines(heads, "std"), zero=True)
        relation = Course(
            "correlation", "Correlation with scores", "correlation of τ and score", _lines(heads, "correlation")
        )
        notes += [*spread.add(runs, charts, tables), *relation.add(runs, charts, tables)]
    if not charts:
        return Missing(TEMPERATURES_NAME, TEMPERATURES_TITLE, TEMPERATURES_REASON)
    return Figure(TEMPERATURES_NAME, TEMPERATURES_TITLE, TEMPERATURES_READING, tuple(charts), tables, tuple(notes))


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
