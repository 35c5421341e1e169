"""How often a query's positive outranks all its negatives: the accuracy of the pretext task."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.courses import STEP
from contrast.report.curves import curve, extend, has_lone_point
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, kinds_chart
from contrast.report.lines import Axis
from contrast.report.run_record import RunRecord

__all__ = ["pretext_accuracy"]

NAME, TITLE = "pretext-accuracy", "Accuracy of the pretext task"
READING = (
    "Share of queries whose positive has a higher score than every negative of the query; with mixes, also against "
    "real rows only. It depends on how many negatives there are, and says nothing about classes: near 1 from the "
    "start, the task is too easy; near 0 throughout, the query's own sample may be among its negatives. Of a step's "
    "queries some are looked at (scores.queries)."
)
REASON = "No row of metrics.jsonl has proxy/accuracy: the method has no negatives, or scores are not recorded."
KINDS = {
    "proxy/accuracy": Kind("all negatives", "negative"),
    "proxy/accuracy_without_mixes": Kind("real negatives only", "run-0"),
}


def pretext_accuracy(runs: Sequence[RunRecord]) -> Figure | Missing:
    """The share over training, against all negatives and against real ones."""
    table: Table = {}
    for run in runs:
        for key, kind in KINDS.items():
            for step, value in curve(run.metrics, key):
                extend(table, run=run.name, kind=kind.name, step=step, value=value)
    if not table:
        return Missing(NAME, TITLE, REASON)
    kinds = [kind for kind in KINDS.values() if kind.name in table["kind"]]
    share = Axis("value", "share of queries", ".0%", zero=True)
    names = [run.name for run in runs]
    spec = kinds_chart("pretext", STEP, share, names, kinds, points=has_lone_point(table))
    notes = tuple(f"{run.name}: none recorded." for run in runs if run.name not in table["run"])
    return Figure(NAME, TITLE, READING, (Chart("pretext", spec),), {"pretext": table}, notes)
