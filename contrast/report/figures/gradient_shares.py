"""How many negatives the gradient falls on, and which."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.courses import Band, Course, Line
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.run_record import RunRecord

__all__ = ["gradient_shares"]

NAME, TITLE = "gradient-shares", "Where each query's gradient falls"
READING = (
    "In closed form from the logits, before weighting. The effective number of negatives is exp of the entropy of"
    " their shares (line: mean; band: the middle 90 % of queries; dashed: how many there are): near the dashed "
    "line all negatives weigh alike, near 1 one of them decides. Beside it, which share falls on those that have "
    "most, on mixes and on false negatives. Pull and push are one line where the loss balances them, as InfoNCE does."
)
REASON = "No row of scores.jsonl has gradients on negatives: the method has none, or another kind of loss."
PARTS = (
    Band(
        "effective",
        "Effective number of negatives",
        "negatives",
        ("gradient", "effective", "quantiles"),
        ("gradient", "effective", "mean"),
        ("gradient", "negatives"),
        log=True,
        most=True,
    ),
    Course(
        "shares",
        "Shares of the gradient on negatives",
        "share of the gradient",
        (
            Line("hardest", ("gradient", "top", "1"), "negative-mean"),
            Line("10 hardest", ("gradient", "top", "10"), "negative-3"),
            Line("100 hardest", ("gradient", "top", "100"), "negative-2"),
            Line("mixes", ("gradient", "synthetic"), "run-3"),
            Line("false negatives", ("gradient", "same_class"), "run-2"),
        ),
        ".0%",
        zero=True,
    ),
    Course(
        "forces",
        "Pull of the positive, push of all negatives",
        "mean |∂loss/∂logit|",
        (
            Line("pull", ("gradient", "pull"), "positive"),
            Line("push", ("gradient", "push"), "negative", dashed=True),
        ),
        zero=True,
    ),
)


def gradient_shares(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Effective number, shares, and pull and push over training."""
    charts: list[Chart] = []
    tables: dict[str, Table] = {}
    said: list[str] = []
    for part in PARTS:
        said += part.add(runs, charts, tables)
    if not charts:
        return Missing(NAME, TITLE, REASON)
    there = {name for table in tables.values() for name in table["run"]}
    notes = [f"{run.name}: no gradients on negatives." for run in runs if run.name not in there]
    starts = [note for run in runs for note in run.start_notes]
    return Figure(NAME, TITLE, READING, tuple(charts), tables, (*notes, *starts, *said))
