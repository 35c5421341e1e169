"""Report figures on training: loss, online kNN accuracy and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contrast.report.charts import Axis, Chart, Figure, Missing, Table, axis_within, line_chart
from contrast.report.curves import has_lone_point
from contrast.report.numbers import (
    Series,
    number,
    percent,
    rounded,
    running_mean,
    series_of,
    short,
    smoothing_window,
    thin,
)
from contrast.report.run_record import RunRecord

__all__ = ["accuracy_by_epoch", "knn_accuracy", "learning_rate", "online_references", "training_loss"]

TRAINING_LOSS_NAME, TRAINING_LOSS_TITLE = "training-loss", "Training loss"


def training_loss(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: training loss as logged (light) and its moving average (bold)."""
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
        notes.extend(_add_training_loss(table, run.name, series, windows[run.name]))
    if not windows:
        return Missing(TRAINING_LOSS_NAME, TRAINING_LOSS_TITLE, "No row of metrics.jsonl has train/loss yet.")
    names = [run.name for run in runs]
    step = Axis("step", "training step", ",d")
    loss, beyond = axis_within(Axis("smoothed", "training loss", "~g"), table, "loss")
    starts = [
        f"{run.name}: up to step {run.queue_start:,} the loss includes the random rows of the new queue as negatives."
        for run in runs
        if run.queue_start is not None
    ]
    chart = line_chart("loss", step, loss, names, raw="loss", points=has_lone_point(table, "smoothed"))
    return Figure(
        TRAINING_LOSS_NAME,
        TRAINING_LOSS_TITLE,
        _reading(windows),
        (Chart("loss", chart),),
        {"loss": table},
        (*notes, *starts, *beyond),
    )


def _add_training_loss(table: Table, name: str, series: Series, window: int) -> list[str]:
    smoothed = running_mean(series.y, window)
    kept = thin(series.y)
    table["run"] += [name] * len(kept)
    table["step"] += [series.x[place] for place in kept]
    table["loss"] += [rounded(series.y[place]) for place in kept]
    table["smoothed"] += [rounded(smoothed[place]) for place in kept]
    if len(kept) == len(series.x):
        return []
    return [f"{name}: {len(kept):,} of {len(series.x):,} logged rows drawn, with the extremes of every interval."]


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


RAW, MAJORITY = "online/raw_input_knn_top1", "online/majority_class"
LEAST = 4.0  # percentage points
KNN_ACCURACY_NAME, KNN_ACCURACY_TITLE = "knn-accuracy", "Online kNN accuracy"
KNN_ACCURACY_READING = (
    "Top-1 accuracy of nearest neighbours in the features, measured during training. It shows progress and is not a "
    "result: results are the accuracies above, each with its protocol. Epoch 0 is before the first step, that is, "
    "random weights. The note lists the baselines."
)


def knn_accuracy(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: online kNN accuracy in per cent, at the epochs that measured it."""
    table: Table = {"run": [], "epoch": [], "accuracy": []}
    for run in runs:
        done, accuracies = accuracy_by_epoch(run.metrics)
        kept = thin(accuracies)
        table["run"] += [run.name] * len(kept)
        table["epoch"] += [done[place] for place in kept]
        table["accuracy"] += [None if (value := accuracies[place]) is None else rounded(100 * value) for place in kept]
    if not any(value is not None for value in table["accuracy"]):
        return Missing(KNN_ACCURACY_NAME, KNN_ACCURACY_TITLE, "No row of metrics.jsonl has online/knn_top1 yet.")
    notes = tuple(
        _protocol(run) if run.name in table["run"] else f"{run.name}: no accuracy measured yet." for run in runs
    )
    epoch = Axis("epoch", "epochs trained", "d")
    accuracy, beyond = axis_within(_at_least_wide(Axis("accuracy", "top-1 accuracy (%)", "~g"), table), table)
    chart = line_chart("accuracy", epoch, accuracy, [run.name for run in runs], points=True)
    return Figure(
        KNN_ACCURACY_NAME,
        KNN_ACCURACY_TITLE,
        KNN_ACCURACY_READING,
        (Chart("accuracy", chart),),
        {"accuracy": table},
        (*notes, *beyond),
    )


def _at_least_wide(axis: Axis, table: Table) -> Axis:
    """Widen the axis to at least `LEAST` percentage points: smaller differences are mostly noise of the test set."""
    values = [value for value in table[axis.column] if value is not None]
    missing = LEAST - (max(values) - min(values))
    low = max(0.0, min(min(values) - missing / 2, 100 - LEAST))
    return replace(axis, low=low, high=low + LEAST) if missing > 0 else axis


def accuracy_by_epoch(rows: Sequence[dict[str, Any]]) -> tuple[list[int], list[float | None]]:
    """Online kNN accuracy by epoch.

    Args:
        rows: rows of metrics.jsonl, in order of step. Their epoch, from 0, is the epoch that has just ended.

    Returns:
        The number of epochs trained at each measurement, 0 before the first step, and the accuracies as shares.
    """
    found = [row for row in rows if "online/knn_top1" in row and number(row.get("epoch")) is not None]
    done = [0 if row.get("step") == 0 else int(row["epoch"]) + 1 for row in found]
    return done, [number(row["online/knn_top1"]) for row in found]


def online_references(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Baselines of the online kNN accuracy: raw input, random weights and majority class.

    Args:
        rows: rows of metrics.jsonl, in order of step.

    Returns:
        Accuracies as shares, by name. Baselines that the rows do not have are left out.
    """
    at_start = rows[0].get("online/knn_top1") if rows and rows[0].get("step") == 0 else None
    found = {
        "raw input": next((row[RAW] for row in rows if RAW in row), None),
        "random weights": at_start,
        "majority class": next((row[MAJORITY] for row in rows if MAJORITY in row), None),
    }
    return {name: share for name, value in found.items() if (share := number(value)) is not None}


def _protocol(run: RunRecord) -> str:
    settings = run.config.get("online_knn")
    said = [f"{key} {value}" for key, value in settings.items()] if isinstance(settings, dict) else []
    found = online_references(run.metrics)
    beside = ", ".join(f"{name} {percent(share)}" for name, share in found.items()) or "no baselines measured"
    return f"{run.name}: {', '.join(said) or 'settings unknown'}; {beside}."


LEARNING_RATE_NAME, LEARNING_RATE_TITLE = "learning-rate", "Learning rate"
LEARNING_RATE_READING = "The rate that the optimizer used, after warm-up, decay and scaling with the batch size."


def learning_rate(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: learning rate as logged."""
    table: Table = {"run": [], "step": [], "rate": []}
    for run in runs:
        series = series_of(run.metrics, "train/rate")
        kept = thin(series.y)
        table["run"] += [run.name] * len(kept)
        table["step"] += [series.x[place] for place in kept]
        table["rate"] += [rounded(series.y[place]) for place in kept]
    if not any(value is not None for value in table["rate"]):
        return Missing(LEARNING_RATE_NAME, LEARNING_RATE_TITLE, "No row of metrics.jsonl has train/rate yet.")
    notes = tuple(f"{run.name}: no rate logged yet." for run in runs if run.name not in table["run"])
    step = Axis("step", "training step", ",d")
    rate, beyond = axis_within(Axis("rate", "learning rate (per step)", "~g", zero=True), table)
    chart = line_chart("rate", step, rate, [run.name for run in runs], points=has_lone_point(table, "rate"))
    return Figure(
        LEARNING_RATE_NAME,
        LEARNING_RATE_TITLE,
        LEARNING_RATE_READING,
        (Chart("rate", chart),),
        {"rate": table},
        (*notes, *beyond),
    )
