"""Online kNN accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.lines import Axis, line_chart
from contrast.report.numbers import number, percent, rounded
from contrast.report.run_record import RunRecord
from contrast.report.series import series_of

__all__ = ["knn_accuracy", "online_references"]

RAW, MAJORITY = "online/raw_input_knn_top1", "online/majority_class"
NAME, TITLE = "knn-accuracy", "Online kNN accuracy"
READING = (
    "Top-1 accuracy of nearest neighbours in the features, measured while training. A gauge of progress, not a result: "
    "results are the accuracies above, each with its protocol. Epochs count from 0. Its baselines stand in the note."
)


def knn_accuracy(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Accuracy in per cent at the epochs that measured it."""
    table: Table = {"run": [], "epoch": [], "accuracy": []}
    for run in runs:
        series = series_of(run.metrics, "online/knn_top1", x="epoch")
        table["run"] += [run.name] * len(series.x)
        table["epoch"] += series.x
        table["accuracy"] += [None if value is None else rounded(100 * value) for value in series.y]
    if not any(value is not None for value in table["accuracy"]):
        return Missing(NAME, TITLE, "No row of metrics.jsonl has online/knn_top1 yet.")
    notes = tuple(_protocol(run) if run.name in table["run"] else f"{run.name}: none measured yet." for run in runs)
    epoch, accuracy = Axis("epoch", "epoch", "d"), Axis("accuracy", "top-1 accuracy (%)", ".4~g")
    chart = line_chart("accuracy", epoch, accuracy, [run.name for run in runs], points=True)
    return Figure(NAME, TITLE, READING, (Chart("accuracy", chart),), {"accuracy": table}, notes)


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
