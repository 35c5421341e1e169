"""Learning rate over steps."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.curves import has_lone_point
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.limits import axis_within
from contrast.report.lines import Axis, line_chart
from contrast.report.numbers import rounded
from contrast.report.run_record import RunRecord
from contrast.report.series import series_of, thin

__all__ = ["learning_rate"]

NAME, TITLE = "learning-rate", "Learning rate"
READING = "The rate that the optimizer used, after warm-up, decay and scaling with the batch size."


def learning_rate(runs: Sequence[RunRecord]) -> Figure | Missing:
    """The rate as logged."""
    table: Table = {"run": [], "step": [], "rate": []}
    for run in runs:
        series = series_of(run.metrics, "train/rate")
        kept = thin(series.y)
        table["run"] += [run.name] * len(kept)
        table["step"] += [series.x[place] for place in kept]
        table["rate"] += [rounded(series.y[place]) for place in kept]
    if not any(value is not None for value in table["rate"]):
        return Missing(NAME, TITLE, "No row of metrics.jsonl has train/rate yet.")
    notes = tuple(f"{run.name}: no rate logged yet." for run in runs if run.name not in table["run"])
    step = Axis("step", "training step", ",d")
    rate, beyond = axis_within(Axis("rate", "learning rate (per step)", "~g", zero=True), table)
    chart = line_chart("rate", step, rate, [run.name for run in runs], points=has_lone_point(table, "rate"))
    return Figure(NAME, TITLE, READING, (Chart("rate", chart),), {"rate": table}, (*notes, *beyond))
