"""How many pairs a mining flags, and how far it turns them down."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.courses import STEP
from contrast.report.curves import curve, extend, has_lone_point
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, kinds_chart
from contrast.report.lines import Axis
from contrast.report.run_record import RunRecord

__all__ = ["bad_pairs"]

NAME, TITLE = "bad-pairs", "Bad pairs"
READING = (
    "Bad-pair mining flags samples whose mean loss is far from the others': far below, whose positive may not be "
    "one but for the batch (noisy), or far above (faulty). Left: the share of the batch that is flagged; right: "
    "the mean weight of the flagged. Which they are is in the gallery and in flagged.jsonl."
)
REASON = "The loss mines no bad pairs."
SHARES = (Kind("noisy", "run-2"), Kind("faulty", "run-1"))
WEIGHT = (Kind("mean weight", "run-0"),)


def bad_pairs(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Shares flagged and their weight over training."""
    shares: Table = {}
    weights: Table = {}
    for run in runs:
        for kind in SHARES:
            for step, share in curve(run.metrics, f"bad_pairs/{kind.name}"):
                extend(shares, run=run.name, kind=kind.name, step=step, value=share)
        for step, weight in curve(run.metrics, "bad_pairs/weight"):
            extend(weights, run=run.name, kind=WEIGHT[0].name, step=step, value=weight)
    if not shares:
        return Missing(NAME, TITLE, REASON)
    names = [run.name for run in runs]
    up = Axis("value", "share of the batch", ".1%", zero=True)
    charts = [
        Chart("flagged", kinds_chart("flagged", STEP, up, names, SHARES, points=has_lone_point(shares)), "Flagged")
    ]
    tables = {"flagged": shares}
    if weights:
        tables["weights"] = weights
        weight_axis = Axis("value", "weight", "~g", zero=True)
        spec = kinds_chart("weights", STEP, weight_axis, names, WEIGHT, points=has_lone_point(weights))
        charts.append(Chart("weights", spec, "Weight of the flagged"))
    quiet = [run.name for run in runs if run.name in shares["run"] and not weights]
    return Figure(NAME, TITLE, READING, tuple(charts), tables, tuple(f"{name}: nothing is flagged." for name in quiet))
