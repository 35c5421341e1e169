"""Training loss over steps."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.curves import has_lone_point
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.limits import axis_within
from contrast.report.lines import Axis, line_chart
from contrast.report.numbers import rounded, short
from contrast.report.run_record import RunRecord
from contrast.report.series import Series, running_mean, series_of, smoothing_window, thin

__all__ = ["training_loss"]

NAME, TITLE = "training-loss", "Training loss"


def training_loss(runs: Sequence[RunRecord]) -> Figure | Missing:
    """The logged loss, light, and its running mean, bold."""
    table: Table = {"run": [], "step": [], "loss": [], "smoothed": []}
    notes = []
    windows: dict[str, int] = {}
    for run in runs:
        series = series_of(run.metrics, "train/loss")
        if not any(value is not None for value in series.y):
            notes.append(f"{run.name}: no loss logged yet.")
            continue
        windows[run.name] = smoothing_window(len(series.y))
        notes.extend(_gaps(run.name, series))
        notes.extend(_add(table, run.name, series, windows[run.name]))
    if not windows:
        return Missing(NAME, TITLE, "No row of metrics.jsonl has train/loss yet.")
    names = [run.name for run in runs]
    step = Axis("step", "training step", ",d")
    loss, beyond = axis_within(Axis("smoothed", "training loss", "~g"), table, "loss")
    starts = [
        f"{run.name}: up to step {run.queue_start:,} the loss counts the random rows of its queue's start among its "
        "negatives."
        for run in runs
        if run.queue_start is not None
    ]
    chart = line_chart("loss", step, loss, names, raw="loss", points=has_lone_point(table, "smoothed"))
    return Figure(NAME, TITLE, _reading(windows), (Chart("loss", chart),), {"loss": table}, (*notes, *starts, *beyond))


def _add(table: Table, name: str, series: Series, window: int) -> list[str]:
    smoothed = running_mean(series.y, window)
    kept = thin(series.y)
    table["run"] += [name] * len(kept)
    table["step"] += [series.x[place] for place in kept]
    table["loss"] += [rounded(series.y[place]) for place in kept]
    table["smoothed"] += [rounded(smoothed[place]) for place in kept]
    if len(kept) == len(series.x):
        return []
    return [f"{name}: {len(kept):,} of {len(series.x):,} logged rows drawn, the extremes of every stretch among them."]


def _gaps(name: str, series: Series) -> list[str]:
    missing = [step for step, value in zip(series.x, series.y, strict=True) if value is None]
    if not missing:
        return []
    return [f"{name}: the loss is not a finite number in {len(missing):,} rows, first at step {short(missing[0])}."]


def _reading(windows: dict[str, int]) -> str:
    values = sorted(set(windows.values()))
    rows = str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
    return (
        f"Light: the loss as logged. Bold: the mean of the {rows} logged rows centred at each step. Losses of other "
        "objectives, temperatures or numbers of negatives are on different scales; compare accuracies instead."
    )
