"""Report figure on the health of the embedding: uniformity, alignment, rank, spectrum and margin."""

from __future__ import annotations

from collections.abc import Sequence

from contrast.report.chart_kinds import Kind, kinds_chart
from contrast.report.charts import Axis, Chart, Figure, Missing, Table
from contrast.report.curves import Band, Course, Line, extend, numbers_at
from contrast.report.run_record import RunRecord

__all__ = ["embedding_health"]

NAME, TITLE = "embedding-health", "Embedding health"
READING = (
    "Uniformity falls as samples spread over the sphere (0: all at one point); alignment falls as positives get "
    "closer. RankMe is the effective number of directions that embeddings use; the spectrum shows how fast the "
    "singular values decay. A standard deviation far below the dashed 1/√width, or a falling rank, is a collapse. The "
    "margin is the positive's score minus the hardest negative's."
)
REASON = "scores.jsonl has no embedding statistics yet, or an earlier version wrote it without them."
BEFORE = (
    Course(
        "uniformity",
        "Uniformity (lower: more spread)",
        "log mean exp(−2 ‖x − y‖²)",
        (Line("uniformity", ("embedding", "uniformity"), "negative"),),
    ),
    Course(
        "alignment",
        "Alignment (lower: positives nearer)",
        "mean ‖x − x⁺‖²",
        (Line("alignment", ("embedding", "alignment"), "positive"),),
        zero=True,
    ),
    Course(
        "rank",
        "RankMe",
        "effective rank",
        (
            Line("embedding", ("embedding", "rank_me"), "run-0"),
            Line("features", ("features", "rank_me"), "run-3"),
        ),
        zero=True,
    ),
)
BANDS = (
    Band(
        "deviation",
        "Deviation of each dimension",
        "standard deviation, unit rows",
        ("embedding", "std"),
        reference=("embedding", "width"),
        power=-0.5,
    ),
    Band("norms", "Norm before normalisation", "Euclidean norm", ("embedding", "norm")),
    Band(
        "margin",
        "Margin over the hardest negative",
        "difference of cosines",
        ("embedding", "margin", "quantiles"),
        ("embedding", "margin", "mean"),
    ),
)
SOURCES = {"embedding": Kind("embedding", "run-0"), "features": Kind("features", "run-3")}
FIRST = "embedding, first row"
LEAST = 1e-5
"""Smallest drawn ratio of a singular value to the largest; smaller ratios are rounding errors of float32."""


def embedding_health(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: embedding health over training, and the singular value spectrum at the end."""
    charts: list[Chart] = []
    tables: dict[str, Table] = {}
    said: list[str] = []
    for part in BEFORE:
        said += part.add(runs, charts, tables)
    _add_spectrum(runs, charts, tables)
    for band in BANDS:
        said += band.add(runs, charts, tables)
    if not charts:
        return Missing(NAME, TITLE, REASON)
    there = {name for table in tables.values() for name in table["run"]}
    notes = (*(f"{run.name}: no embedding statistics." for run in runs if run.name not in there), *said)
    return Figure(NAME, TITLE, READING, tuple(charts), tables, notes)


def _add_spectrum(runs: Sequence[RunRecord], charts: list[Chart], tables: dict[str, Table]) -> None:
    table: Table = {}
    for run in runs:
        for source, kind in SOURCES.items():
            rows = [row for row in run.observed if numbers_at(row, source, "spectrum", "value")]
            moments = [(kind.name, rows[-1:])]
            if len(runs) == 1 and len(rows) > 1 and source == "embedding":
                moments.insert(0, (FIRST, rows[:1]))
            for name, some in moments:
                for row in some:
                    places, values = (numbers_at(row, source, "spectrum", key) for key in ("place", "value"))
                    for place, value in zip(places, values, strict=False):
                        if place is not None and value is not None and value > LEAST:
                            extend(table, run=run.name, kind=name, place=place, value=value)
    if not table:
        return
    tables["spectrum"] = table
    kinds = [kind for kind in (*SOURCES.values(), Kind(FIRST, "muted")) if kind.name in table["kind"]]
    x = Axis("place", "singular value, the largest first", ",d")
    y = Axis("value", "over the largest", "~g", log=True)
    spec = kinds_chart("spectrum", x, y, [run.name for run in runs], kinds)
    charts.append(Chart("spectrum", spec, "Spectrum in the last row"))
