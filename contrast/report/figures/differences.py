"""Report figure on the differences between runs: each run minus the first run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from contrast.report.chart_kinds import Kind, kinds_chart
from contrast.report.charts import Axis, Chart, Figure, Missing, Table, axis_within
from contrast.report.curves import MOST_ROWS, STEP, extend, has_lone_point, value_at
from contrast.report.numbers import number, thin
from contrast.report.run_record import RunRecord

__all__ = ["differences"]

NAME, TITLE = "differences", "Differences from {first}"
READING = (
    "Each other run minus {first} at the same step, with linear interpolation between rows; above 0 the other run has "
    "the larger value. With different batch sizes, equal steps are not equal numbers of samples."
)


@dataclass(frozen=True)
class Quantity:
    """Quantity that is compared between runs.

    Attributes:
        name: name of the chart and of its table.
        label: heading above the chart.
        title: title of the vertical axis, with the unit.
        path: keys of the number in a row, from the outside in.
        format: d3 number format.
        of_metrics: whether rows of metrics.jsonl have the number, as a share; else rows of scores.jsonl.
    """

    name: str
    label: str
    title: str
    path: tuple[str, ...]
    format: str = "~g"
    of_metrics: bool = False


QUANTITIES = (
    Quantity("knn", "kNN accuracy", "difference, percentage points", ("online/knn_top1",), "~g", of_metrics=True),
    Quantity("positive", "Mean positive score", "difference of scores", ("positive", "mean")),
    Quantity("negative", "Mean negative score", "difference of scores", ("negative", "mean")),
    Quantity("auc", "AUC of positives against negatives", "difference", ("separation", "auc")),
    Quantity("effective", "Effective number of negatives", "difference", ("gradient", "effective", "mean")),
    Quantity("false", "Gradient on false negatives", "difference of shares", ("gradient", "same_class"), ".1%"),
    Quantity("uniformity", "Uniformity", "difference", ("embedding", "uniformity")),
    Quantity("rank", "RankMe of the embedding", "difference", ("embedding", "rank_me")),
)


def differences(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: each run minus the first run, one chart per quantity, over the steps that both runs cover."""
    first, others = runs[0], runs[1:]
    title = TITLE.format(first=first.name)
    charts: list[Chart] = []
    notes: list[str] = []
    tables: dict[str, Table] = {}
    names = [run.name for run in runs]
    for quantity in QUANTITIES:
        table: Table = {}
        for run in others:
            for step, value in _difference(first, run, quantity):
                extend(table, run=run.name, kind=quantity.label, step=step, value=value)
        if table:
            tables[quantity.name] = table
            y, said = axis_within(Axis("value", quantity.title, quantity.format, zero=True), table)
            notes += said
            kinds = [Kind(quantity.label, "run-0")]
            spec = kinds_chart(quantity.name, STEP, y, names, kinds, points=has_lone_point(table))
            spec["layer"].insert(0, _zero(quantity.title))
            charts.append(Chart(f"difference-{quantity.name}", spec, quantity.label))
    if not charts:
        return Missing(NAME, title, "It needs two runs with rows over the same steps.")
    tables["zero"] = {"zero": [0]}
    return Figure(NAME, title, READING.format(first=first.name), tuple(charts), tables, tuple(notes))


def _difference(first: RunRecord, run: RunRecord, quantity: Quantity) -> list[tuple[int, float]]:
    """Values of a run minus those of the first run, interpolated linearly, at the run's steps within both ranges."""
    (at, of_first), (steps, values) = _course(first, quantity), _course(run, quantity)
    if not len(at) or not len(steps):
        return []
    both = (steps >= at[0]) & (steps <= at[-1])
    scale = 100 if quantity.of_metrics else 1
    found = scale * (values[both] - np.interp(steps[both], at, of_first))
    points = list(zip(steps[both].astype(int).tolist(), found.tolist(), strict=True))
    return [points[place] for place in thin(found.tolist(), MOST_ROWS)]


def _course(run: RunRecord, quantity: Quantity) -> tuple[Any, Any]:
    """Steps and values of a quantity in a run, as two arrays."""
    rows = run.metrics if quantity.of_metrics else run.observed
    points = [(row["step"], value) for row in rows if (value := number(value_at(row, *quantity.path))) is not None]
    return np.array([step for step, _ in points]), np.array([value for _, value in points])


def _zero(title: str) -> dict[str, Any]:
    y = {"field": "zero", "type": "quantitative", "title": title}
    mark = {"type": "rule", "strokeDash": [4, 3], "color": "theme:muted"}
    return {"data": {"name": "zero"}, "mark": mark, "encoding": {"y": y}}
