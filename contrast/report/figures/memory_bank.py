"""How old the keys of a bank are, and what age does to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.report.courses import STEP
from contrast.report.curves import MOST_ROWS, extend, has_lone_point, numbers_at, value_at
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.kinds import Kind, band_chart, kinds_chart
from contrast.report.limits import axis_within
from contrast.report.lines import Axis
from contrast.report.numbers import number
from contrast.report.run_record import RunRecord
from contrast.report.series import thin

__all__ = ["memory_bank"]

NAME, TITLE = "memory-bank", "Memory bank"
READING = (
    "Age: how many steps ago the keys that queries met were written (line: median; band: the middle 80 %). "
    "Freshness: the cosine of a stored key with one that the encoder makes now of the same view; 1 is fresh, and "
    "it falls with age as far as the encoder moves. Recall: the share of the true nearest keys that an "
    "approximate search found."
)
REASON = "There is no bank.jsonl with rows: the method has no bank, or rows are not due yet."


def memory_bank(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Ages, freshness over training and by age, and recall."""
    names = [run.name for run in runs]
    tables: dict[str, Table] = {"ages": {}, "fresh": {}, "by_age": {}, "recall": {}}
    for run in runs:
        rows: dict[str, Table] = {name: {} for name in tables}
        for row in run.bank:
            _add(rows, run.name, row)
        for name, found in rows.items():
            for place in thin(found.get("value", []), MOST_ROWS):
                extend(tables[name], **{column: values[place] for column, values in found.items()})
        fresh = [row for row in run.bank if numbers_at(row, "freshness", "cosine")]
        for row in fresh[-1:]:
            _add_by_age(tables["by_age"], run.name, row)
    charts = []
    notes: list[str] = []
    age_axis, beyond = axis_within(Axis("value", "age (steps)", ",d", zero=True), tables["ages"], "low", "high")
    notes += beyond
    if tables["ages"]:
        charts.append(
            Chart(
                "ages",
                band_chart("ages", STEP, age_axis, names, points=has_lone_point(tables["ages"])),
                "Age of the keys met",
            )
        )
    cosine, beyond = axis_within(Axis("value", "cosine with a fresh key", "~g"), tables["fresh"])
    notes += beyond
    alone = [Kind("mean", "run-0")]
    if tables["fresh"]:
        spec = kinds_chart("fresh", STEP, cosine, names, alone, points=has_lone_point(tables["fresh"]))
        charts.append(Chart("fresh", spec, "Freshness over training"))
    if tables["by_age"]:
        age = Axis("age", "age (steps)", ",d")
        by_age = axis_within(Axis("value", "cosine with a fresh key", "~g"), tables["by_age"])[0]
        spec = kinds_chart("by_age", age, by_age, names, alone, points=has_lone_point(tables["by_age"]))
        charts.append(Chart("by-age", spec, "Freshness by age, in the last row"))
    if tables["recall"]:
        share = Axis("value", "share found", ".0%")
        spec = kinds_chart("recall", STEP, share, names, alone, points=has_lone_point(tables["recall"]))
        charts.append(Chart("recall", spec, "Recall of the search"))
    tables = {name: table for name, table in tables.items() if table}
    if not charts:
        return Missing(NAME, TITLE, REASON)
    return Figure(NAME, TITLE, READING, tuple(charts), tables, tuple(notes))


def _add(tables: dict[str, Table], run: str, row: dict[str, Any]) -> None:
    spread = numbers_at(row, "ages", "quantiles")
    if len(spread) == 7 and None not in spread:
        extend(tables["ages"], run=run, step=row["step"], value=spread[3], low=spread[1], high=spread[5])
    cosines = [value for value in numbers_at(row, "freshness", "cosine") if value is not None]
    if cosines:
        extend(tables["fresh"], run=run, kind="mean", step=row["step"], value=sum(cosines) / len(cosines))
    recall = number(value_at(row, "recall", "recall"))
    if recall is not None:
        extend(tables["recall"], run=run, kind="mean", step=row["step"], value=recall)


def _add_by_age(table: Table, run: str, row: dict[str, Any]) -> None:
    by_age: dict[float, list[float]] = {}
    for age, cosine in zip(numbers_at(row, "freshness", "age"), numbers_at(row, "freshness", "cosine"), strict=False):
        if age is not None and cosine is not None:
            by_age.setdefault(age, []).append(cosine)
    for age in sorted(by_age):
        extend(table, run=run, kind="mean", age=age, value=sum(by_age[age]) / len(by_age[age]))
