"""DCL's coupling multiplier over training."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.curves import extend, numbers_at, some_of, value_at
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.figures.hardness_profile import edges
from contrast.report.kinds import Kind, clipped_cells, heat_chart, kinds_chart
from contrast.report.lines import Axis
from contrast.report.numbers import number
from contrast.report.run_record import RunRecord

__all__ = ["coupling"]

NAME, TITLE = "coupling", "Coupling of positives and negatives"
READING = (
    "What InfoNCE multiplies a query's gradient by because its positive stands in the denominator, Σ exp(l⁻) / "
    "(exp(l⁺) + Σ exp(l⁻)). At 1 it takes nothing away; easy positives, few negatives and a low temperature bring it "
    "towards 0, where the query stops learning. DCL leaves the multiplier out, so there it is what InfoNCE would do."
)
REASON = "No row of scores.jsonl has the multiplier: the method has no negatives, or another kind of loss."


def coupling(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Its distribution over queries as a heat map, one a run, with the mean."""
    names = [run.name for run in runs]
    means: Table = {}
    cells = {place: found for place, run in enumerate(runs) if (found := _cells(run, means))}
    if not cells:
        return Missing(NAME, TITLE, REASON)
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
    charts.append(Chart("coupling-mean", kinds_chart("means", step, mean, names, kinds), "Mean, and its lower end"))
    clipped = clipped_cells(density, {names[place]: found for place, found in cells.items()})
    starts = [note for run in runs for note in run.start_notes]
    return Figure(NAME, TITLE, READING, tuple(charts), tables, (*starts, *clipped))


def _cells(run: RunRecord, means: Table) -> Table:
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
