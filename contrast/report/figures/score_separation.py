"""How far positives stand above negatives, over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from contrast.report.courses import Course, Line
from contrast.report.curves import has_lone_point
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.limits import axis_within
from contrast.report.lines import Axis, line_chart
from contrast.report.numbers import rounded
from contrast.report.run_record import RunRecord
from contrast.report.series import thin
from contrast.report.snapshots import Snapshot

__all__ = ["mean_gap", "score_separation", "sensitivity_index"]

NAME, TITLE = "score-separation", "Separation of positives from negatives"
READING = (
    "Gap: the mean positive minus the mean negative score; at 0 the means do not tell the two apart. "
    "d′: the same gap in units of the two distributions' spread, √((σ₊² + σ₋²) / 2). AUC: how often a positive's score "
    "is above a negative's, of any two queries. Overlap: the area that both histograms share, 1 where they are alike."
)
REASON = "It needs the means of positive and of negative scores: there are none yet, or the method has no negatives."
RANKED = (
    Course("auc", "Area under the curve", "AUC", (Line("AUC", ("separation", "auc")),)),
    Course("overlap", "Overlap", "shared area", (Line("overlap", ("separation", "overlap")),), zero=True),
)


def mean_gap(snapshot: Snapshot) -> float | None:
    """``mean₊ − mean₋``, in units of cosine similarity; None where a side is missing."""
    positive, negative = snapshot.positive, snapshot.negative
    if positive is None or negative is None or positive.mean is None or negative.mean is None:
        return None
    return positive.mean - negative.mean


def sensitivity_index(snapshot: Snapshot) -> float | None:
    """``d′ = (mean₊ − mean₋) / √((std₊² + std₋²) / 2)``; None where a side is missing or neither spreads.

    Source: Green and Swets, Signal Detection Theory and Psychophysics, 1966; the form for unequal variances.
    """
    gap, positive, negative = mean_gap(snapshot), snapshot.positive, snapshot.negative
    if gap is None or positive is None or negative is None or positive.std is None or negative.std is None:
        return None
    spread = math.sqrt((positive.std**2 + negative.std**2) / 2)
    return gap / spread if spread > 0 else None


def score_separation(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Gap and d′ at every snapshot."""
    table: Table = {"run": [], "step": [], "gap": [], "d_prime": []}
    for run in runs:
        both = [snapshot for snapshot in run.snapshots if mean_gap(snapshot) is not None]
        for place in thin([mean_gap(snapshot) for snapshot in both]):
            table["run"].append(run.name)
            table["step"].append(both[place].step)
            table["gap"].append(rounded(mean_gap(both[place])))
            table["d_prime"].append(rounded(sensitivity_index(both[place])))
    if not table["run"]:
        return Missing(NAME, TITLE, REASON)
    names = [run.name for run in runs]
    notes = tuple(f"{name}: no positive and negative scores yet." for name in names if name not in table["run"])
    step = Axis("step", "training step", ",d")
    gap, of_gap = axis_within(Axis("gap", "gap of the means (cosine similarity)", "~g", zero=True), table)
    index, of_index = axis_within(Axis("d_prime", "d′ (standard deviations)", "~g", zero=True), table)
    beyond = [*of_gap, *of_index]
    charts = [
        Chart(
            "gap", line_chart("separation", step, gap, names, points=has_lone_point(table, "gap")), "Gap of the means"
        ),
        Chart(
            "d-prime",
            line_chart("separation", step, index, names, points=has_lone_point(table, "d_prime")),
            "Sensitivity index d′",
        ),
    ]
    tables = {"separation": table}
    for part in RANKED:
        beyond += part.add(runs, charts, tables)
    starts = [note for run in runs for note in run.start_notes]
    return Figure(NAME, TITLE, READING, tuple(charts), tables, (*notes, *starts, *dict.fromkeys(beyond)))
