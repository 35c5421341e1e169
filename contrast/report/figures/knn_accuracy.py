"""Online kNN accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.limits import axis_within
from contrast.report.lines import Axis, line_chart
from contrast.report.numbers import number, percent, rounded
from contrast.report.run_record import RunRecord
from contrast.report.series import thin

__all__ = ["accuracy_by_epoch", "knn_accuracy", "online_references"]

RAW, MAJORITY = "online/raw_input_knn_top1", "online/majority_class"
LEAST = 4.0
NAME, TITLE = "knn-accuracy", "Online kNN accuracy"
READING = (
    "Top-1 accuracy of nearest neighbours in the features, measured while training. A gauge of progress, not a result: "
    "results are the accuracies above, each with its protocol. Epoch 0 is before the first step, that is, random "
    "weights. Its baselines stand in the note."
)


def knn_accuracy(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Accuracy in per cent at the epochs that measured it."""
    table: Table = {"run": [], "epoch": [], "accuracy": []}
    for run in runs:
        done, accuracies = accuracy_by_epoch(run.metrics)
        kept = thin(accuracies)
        table["run"] += [run.name] * len(kept)
        table["epoch"] += [done[place] for place in kept]
        table["accuracy"] += [None if (value := accuracies[place]) is None else rounded(100 * value) for place in kept]
    if not any(value is not None for value in table["accuracy"]):
        return Missing(NAME, TITLE, "No row of metrics.jsonl has online/knn_top1 yet.")
    notes = tuple(_protocol(run) if run.name in table["run"] else f"{run.name}: none measured yet." for run in runs)
    epoch = Axis("epoch", "epochs trained", "d")
    accuracy, beyond = axis_within(_at_least_wide(Axis("accuracy", "top-1 accuracy (%)", "~g"), table), table)
    chart = line_chart("accuracy", epoch, accuracy, [run.name for run in runs], points=True)
    return Figure(NAME, TITLE, READING, (Chart("accuracy", chart),), {"accuracy": table}, (*notes, *beyond))


def _at_least_wide(axis: Axis, table: Table) -> Axis:
    """The axis over `LEAST` points or more: what lies within fewer is mostly the noise of a test set."""
    values = [value for value in table[axis.column] if value is not None]
    missing = LEAST - (max(values) - min(values))
    low = max(0.0, min(min(values) - missing / 2, 100 - LEAST))
    return replace(axis, low=low, high=low + LEAST) if missing > 0 else axis


def accuracy_by_epoch(rows: Sequence[dict[str, Any]]) -> tuple[list[int], list[float | None]]:
    """Epochs that were trained when the accuracy was measured, 0 before the first step, and the accuracies as shares.

    Args:
        rows: of metrics.jsonl, in order of step; their epochs count from 0 and are the ones that were just done.
    """
    found = [row for row in rows if "online/knn_top1" in row and number(row.get("epoch")) is not None]
    done = [0 if row.get("step") == 0 else int(row["epoch"]) + 1 for row in found]
    return done, [number(row["online/knn_top1"]) for row in found]


def online_references(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the accuracy while training must beat, by name: shares, as far as the rows have them.

    Args:
        rows: of metrics.jsonl, in order of step.
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
    return f"{run.name}: {', '.join(said) or 'its configuration does not say how'}; {beside}."
