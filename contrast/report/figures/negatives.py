"""Report figures on negatives: hardness profile, false negatives and memory bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contrast.report.chart_kinds import Kind, band_chart, clipped_cells, heat_chart, kinds_chart
from contrast.report.charts import Axis, Chart, Figure, Missing, Table, axis_within
from contrast.report.curves import (
    MOST_ROWS,
    RANK_AXIS,
    STEP,
    Course,
    Line,
    curve,
    extend,
    has_lone_point,
    numbers_at,
    per_negative,
    rank_labels,
    settled,
    sizes_of_groups,
    some_of,
    value_at,
)
from contrast.report.numbers import number, thin
from contrast.report.run_record import RunRecord

__all__ = ["false_negatives", "hardness_profile", "memory_bank"]

HARDNESS_PROFILE_NAME, HARDNESS_PROFILE_TITLE = "hardness-profile", "Negatives by hardness"
HARDNESS_PROFILE_READING = (
    "Each query's negatives, ranked by score. Left: the mean score at each rank. Right: the share of the query's "
    "gradient per negative, averaged over a group of ranks; dashed: equal shares. A low temperature moves the gradient "
    "to the first ranks. Groups have 1, 1, 2, 4 … 64 ranks, and the last group has the remaining ranks; the CSV has "
    "the sums of the groups."
)
HARDNESS_PROFILE_REASON = (
    "No row of scores.jsonl ranks negatives: the method has no negatives, or an earlier version wrote the file."
)
HARDNESS_PROFILE_KINDS = (
    Kind("first row", "negative-2"),
    Kind("half-way", "negative-3"),
    Kind("last tenth", "negative-mean"),
)
ALIKE = Kind("equal shares", "muted", dashed=True)


def hardness_profile(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: score and gradient share of negatives by hardness rank, and the share as a heat map over training.

    One run is drawn at the start, half-way and at the end; several runs are compared at the end only.
    """
    ranked = [(run, rows) for run in runs if (rows := _ranked(run))]
    if not ranked:
        return Missing(HARDNESS_PROFILE_NAME, HARDNESS_PROFILE_TITLE, HARDNESS_PROFILE_REASON)
    names = [run.name for run in runs]
    labels = max((rank_labels(run.header) for run, _ in ranked), key=len)
    table: Table = {}
    for run, rows in ranked:
        _add_hardness_profile(table, run, rows, alone=len(runs) == 1)
    kinds = HARDNESS_PROFILE_KINDS if len(runs) == 1 else HARDNESS_PROFILE_KINDS[-1:]
    shares = {name: list(column) for name, column in table.items()}
    alike = [run for run, _ in ranked if len(runs) == 1]
    for run in alike:
        _add_alike(shares, run, ranked[0][1])
    rank, score = Axis("rank", RANK_AXIS, ""), Axis("score", "mean score", "~g")
    share = Axis("per_negative", "share of the gradient per negative", ".3~%", log=True)
    of_share = [*kinds, *([ALIKE] if ALIKE.name in shares["kind"] else [])]
    charts = [
        Chart("hardness-score", kinds_chart("profile", rank, score, names, kinds, ordinal=labels), "Score by rank"),
        Chart(
            "hardness-gradient",
            kinds_chart("shares", rank, share, names, of_share, ordinal=labels),
            "Gradient on one negative, by rank",
        ),
    ]
    cells = {place: found for place, (run, rows) in enumerate(ranked) if (found := _cells(run, rows))}
    tables = {"profile": table, "shares": shares} | {f"cells{place}": found for place, found in cells.items()}
    for place in cells:
        label = "Share of the gradient per negative over training" + (
            f": {ranked[place][0].name}" if len(runs) > 1 else ""
        )
        drawn = heat_chart(
            f"cells{place}", rank, replace(share, title="share per negative"), labels, list(cells.values())
        )
        charts.append(Chart(f"hardness-map-{place}", drawn, label))
    notes = [f"{run.name}: no ranked negatives." for run in runs if run.name not in table["run"]]
    notes += [note for run in runs for note in run.start_notes]
    if cells:
        notes += clipped_cells(share, {ranked[place][0].name: found for place, found in cells.items()})
    return Figure(
        HARDNESS_PROFILE_NAME, HARDNESS_PROFILE_TITLE, HARDNESS_PROFILE_READING, tuple(charts), tables, tuple(notes)
    )


def _ranked(run: RunRecord) -> list[dict[str, Any]]:
    return [row for row in run.observed if numbers_at(row, "hardness", "score")] if rank_labels(run.header) else []


def _add_hardness_profile(table: Table, run: RunRecord, rows: Sequence[dict[str, Any]], alone: bool) -> None:
    labels = rank_labels(run.header)
    moments = {HARDNESS_PROFILE_KINDS[2].name: rows}
    if alone and len(rows) > 2:
        moments = {
            HARDNESS_PROFILE_KINDS[0].name: rows[:1],
            HARDNESS_PROFILE_KINDS[1].name: rows[: len(rows) // 2 + 1][-1:],
            **moments,
        }
    for kind, some in moments.items():
        score, gradient = settled(some, "hardness", "score"), settled(some, "hardness", "gradient")
        alone_share = per_negative(gradient, run.header, _negatives(some))
        for place, value in enumerate(score[: len(labels)]):
            share = gradient[place] if place < len(gradient) else None
            one = alone_share[place] if place < len(alone_share) else None
            # A logarithmic axis cannot show zero: None leaves the point out.
            extend(
                table,
                run=run.name,
                kind=kind,
                rank=labels[place],
                score=value,
                gradient=share,
                per_negative=one or None,
            )


def _add_alike(table: Table, run: RunRecord, rows: Sequence[dict[str, Any]]) -> None:
    """Append the reference line of a uniform gradient: 1 / N on each of N negatives."""
    count = _negatives(rows)
    if count:
        for label, size in zip(rank_labels(run.header), sizes_of_groups(run.header, count), strict=False):
            if size >= 0.5:
                one = {"score": None, "gradient": size / count, "per_negative": 1 / count}
                extend(table, run=run.name, kind=ALIKE.name, rank=label, **one)


def _negatives(rows: Sequence[dict[str, Any]]) -> float | None:
    """Mean number of negatives per query over the last tenth of the rows; None where it was not recorded."""
    found = [
        value for row in rows[-max(1, len(rows) // 10) :] if (value := number(value_at(row, "gradient", "negatives")))
    ]
    return sum(found) / len(found) if found else None


def _cells(run: RunRecord, rows: Sequence[dict[str, Any]]) -> Table:
    """Cells of the heat map: gradient share per negative, by step and rank group."""
    labels, shown = rank_labels(run.header), some_of(rows)
    table: Table = {}
    for at, row in enumerate(shown):
        start, end = edges(shown, at)
        shares = numbers_at(row, "hardness", "gradient")[: len(labels)]
        for place, value in enumerate(per_negative(shares, run.header, _negatives([row]))):
            if value is not None:
                extend(table, **{"from": start}, to=end, step=row["step"], rank=labels[place], per_negative=value)
    return table


def edges(rows: Sequence[dict[str, Any]], at: int) -> tuple[float, float]:
    """Start and end of a row's column in a heat map, in steps: half-way to the neighbouring rows.

    Args:
        rows: all rows of the heat map, in order of step.
        at: index of the row.
    """
    step = rows[at]["step"]
    start = (rows[at - 1]["step"] + step) / 2 if at else step
    end = (rows[at + 1]["step"] + step) / 2 if at + 1 < len(rows) else step + (0 if at else 1)
    return float(start), float(end)


FALSE_NEGATIVES_NAME, FALSE_NEGATIVES_TITLE = "false-negatives", "False negatives"
FALSE_NEGATIVES_READING = (
    "False negatives: negatives of the query's own class according to the labels, which the loss does not see. Left: "
    "their share by hardness rank in the last tenth of the rows, each kind of negative ranked separately, compared "
    "with random training samples. Right: over training, their share of all negatives, of the hardest negative, of the "
    "gradient (this share pushes samples of one class apart) and of the softmax denominator (equal to the gradient's "
    "share for InfoNCE); the first is compared with random samples."
)
FALSE_NEGATIVES_REASON = (
    "No row of scores.jsonl has class statistics: the data have no labels, or the method has no negatives."
)
SOURCES = {
    "all": Kind("all negatives", "negative"),
    "shared": Kind("of the batch or queue", "run-0"),
    "mined": Kind("mined from a bank", "run-2"),
    "mixed": Kind("mixes, by their parents", "run-3"),
}
FALSE_NEGATIVES_KINDS = ("shared", "mined", "mixed")
RANDOM = Kind("random samples", "muted")
COURSE = Course(
    "course",
    "Over training",
    "share of the query's class",
    (
        Line("of all negatives", ("false_negatives", "all"), "run-0"),
        Line("random samples", ("false_negatives", "random"), "muted"),
        Line("of the hardest", ("hardness", "same_class", "all"), "negative", 0),
        Line("of the gradient", ("gradient", "same_class"), "run-3"),
        Line("of the softmax denominator", ("false_negatives", "denominator"), "run-4", dashed=True),
    ),
    ".0%",
    zero=True,
)


def false_negatives(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: share of false negatives by hardness rank at the end of the run, and over training."""
    ranks: Table = {}
    for run in runs:
        _add_ranks(ranks, run, alone=len(runs) == 1)
    if not ranks:
        return Missing(FALSE_NEGATIVES_NAME, FALSE_NEGATIVES_TITLE, FALSE_NEGATIVES_REASON)
    names = [run.name for run in runs]
    labels = max((rank_labels(run.header) for run in runs), key=len)
    kinds = [kind for kind in (*SOURCES.values(), RANDOM) if kind.name in ranks["kind"]]
    rank, share = Axis("rank", RANK_AXIS, ""), Axis("share", "share of the query's class", ".0%", zero=True)
    spec = kinds_chart("ranks", rank, share, names, kinds, ordinal=labels)
    charts, tables = [Chart("false-by-rank", spec, "By hardness rank")], {"ranks": ranks}
    said = COURSE.add(runs, charts, tables)
    notes = (*(f"{run.name}: no labels, or no negatives." for run in runs if run.name not in ranks["run"]), *said)
    return Figure(FALSE_NEGATIVES_NAME, FALSE_NEGATIVES_TITLE, FALSE_NEGATIVES_READING, tuple(charts), tables, notes)


def _add_ranks(table: Table, run: RunRecord, alone: bool) -> None:
    labels = rank_labels(run.header)
    rows = [row for row in run.observed if isinstance(value_at(row, "hardness", "same_class"), dict)]
    others = [
        name
        for name in ("shared", "mined", "mixed")
        if any(numbers_at(row, "hardness", "same_class", name) for row in rows)
    ]
    # With a single kind its line would equal that of all negatives; several runs are compared by all their negatives.
    shown = others if alone and len(others) > 1 else []
    for name in ("all", *shown):
        values = settled(rows, "hardness", "same_class", name)
        for label, value in zip(labels, values, strict=False):
            extend(table, run=run.name, kind=SOURCES[name].name, rank=label, share=value)
    chance = _chance(rows)
    if chance is not None and labels:
        longest = max(len(numbers_at(row, "hardness", "same_class", "all")) for row in rows)
        for label in labels[:longest]:
            extend(table, run=run.name, kind=RANDOM.name, rank=label, share=chance)


def _chance(rows: Sequence[dict[str, Any]]) -> float | None:
    """Probability that a random sample is a false negative, over the last tenth of the rows.

    Older rows do not record it; there it is the share of false negatives among those of the batch or queue.
    """
    for name in ("random", "shared"):
        found = [value for _, value in curve(rows, "false_negatives", name)]
        if found:
            some = found[-max(1, len(found) // 10) :]
            return sum(some) / len(some)
    return None


MEMORY_BANK_NAME, MEMORY_BANK_TITLE = "memory-bank", "Memory bank"
MEMORY_BANK_READING = (
    "Age: number of steps since the keys offered to queries were written (line: median; band: the middle 80 %). "
    "Freshness: the cosine between a stored key and the key that the current encoder gives for the same view; 1 is "
    "fresh, and freshness falls with age as the encoder changes. Recall: the share of the true nearest keys that an "
    "approximate search found."
)
MEMORY_BANK_REASON = "bank.jsonl has no rows: the method has no bank, or the first row is not due yet."


def memory_bank(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: memory bank statistics: age of keys, freshness over training and by age, and recall of the search."""
    names = [run.name for run in runs]
    tables: dict[str, Table] = {"ages": {}, "fresh": {}, "by_age": {}, "recall": {}}
    for run in runs:
        rows: dict[str, Table] = {name: {} for name in tables}
        for row in run.bank:
            _add_memory_bank(rows, run.name, row)
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
                "Age of the offered keys",
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
        share = Axis("value", "recall", ".0%")
        spec = kinds_chart("recall", STEP, share, names, alone, points=has_lone_point(tables["recall"]))
        charts.append(Chart("recall", spec, "Recall of the search"))
    tables = {name: table for name, table in tables.items() if table}
    if not charts:
        return Missing(MEMORY_BANK_NAME, MEMORY_BANK_TITLE, MEMORY_BANK_REASON)
    return Figure(MEMORY_BANK_NAME, MEMORY_BANK_TITLE, MEMORY_BANK_READING, tuple(charts), tables, tuple(notes))


def _add_memory_bank(tables: dict[str, Table], run: str, row: dict[str, Any]) -> None:
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
