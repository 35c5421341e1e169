"""Every training sample by its mean loss and the loss's spread over epochs."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
from jaxtyping import Int

from contrast.report.curves import extend
from contrast.report.figure import Chart, Figure, Missing, Table
from contrast.report.limits import shared_top
from contrast.report.lines import chart_spec
from contrast.report.run_record import RunRecord
from contrast.report.samples import Samples

__all__ = ["data_map"]

NAME, TITLE = "data-map", "Data map"
READING = (
    "One point a training sample (after dataset cartography, Swayamdipta et al., EMNLP 2020, arXiv 2009.10795): up its "
    "mean {quantity} over epochs, right the spread. Low and left are pairs that are easy in every epoch; high and left "
    "those that stay hard, which are worth a look in the gallery; right those whose views decide."
)
REASON = "There is no pairs/all_epochs.safetensors with samples that were seen in two epochs."
MOST_POINTS = 3000
FAR = 10.0
"""How many times the least of the runs' own extents the shared one may be."""
FLAGS = {0: "not flagged", 1: "noisy", 2: "faulty"}
COLOURS = {"not flagged": "theme:run-0", "noisy": "theme:run-2", "faulty": "theme:run-1"}


def data_map(runs: Sequence[RunRecord]) -> Figure | Missing:
    """One map a run on shared axes; of the loss, or of the positive score where a loss gives none by sample."""
    known = [(run, samples) for run in runs if (samples := run.samples) is not None]
    if not known:
        return Missing(NAME, TITLE, REASON)
    by_loss = all(np.isfinite(samples.moments["loss_mean"]).any() for _, samples in known)
    quantity = "loss" if by_loss else "positive"
    tables: dict[str, Table] = {}
    charts, notes = [], []
    for place, (run, samples) in enumerate(known):
        table, count = _table(run.name, samples, quantity)
        if not table:
            continue
        tables[f"map{place}"] = table
        label = f"{run.name}: {count:,} samples" if len(runs) > 1 else f"{count:,} samples"
        charts.append(
            Chart(f"map-{place}", _map(f"map{place}", quantity, any(samples.flag), bool(samples.paths)), label)
        )
        if count > MOST_POINTS:
            notes.append(
                f"{run.name}: {MOST_POINTS:,} of {count:,} samples are shown, evenly spread, "
                f"and up to {MOST_POINTS:,} of the flagged."
            )
    if not charts:
        return Missing(NAME, TITLE, REASON)
    notes += _share_axes(charts, tables)
    said = "loss" if by_loss else "positive score"
    return Figure(NAME, TITLE, READING.format(quantity=said), tuple(charts), tables, tuple(notes))


def _table(name: str, samples: Samples, quantity: str) -> tuple[Table, int]:
    mean, spread = samples.moments[f"{quantity}_mean"], samples.moments[f"{quantity}_std"]
    there = np.flatnonzero(np.isfinite(mean) & np.isfinite(spread))
    chosen = np.union1d(_some(there), _some(there[samples.flag[there] > 0]))
    table: Table = {}
    for at in chosen.tolist():
        flag = FLAGS.get(int(samples.flag[at]), FLAGS[0])
        moments = {"mean": float(mean[at]), "spread": float(spread[at])}
        file = {"file": samples.paths[at]} if samples.paths else {}
        extend(table, run=name, index=int(samples.index[at]), **moments, flag=flag, **file)
    return table, len(there)


def _some(places: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    return places[:: -(-len(places) // MOST_POINTS) or 1]


def _map(table: str, quantity: str, flagged: bool, named: bool) -> dict[str, object]:
    said = "loss" if quantity == "loss" else "positive score"
    kinds = list(COLOURS)
    colour = alt.Color(
        "flag:N",
        scale=alt.Scale(domain=kinds, range=list(COLOURS.values())),
        legend=alt.Legend(title=None, orient="top", symbolType="circle", symbolOpacity=1) if flagged else None,
    )
    base = alt.Chart(alt.NamedData(name=table)).encode(
        x=alt.X("spread:Q", title=f"standard deviation of its {said} over epochs", scale=alt.Scale(zero=True)),
        y=alt.Y("mean:Q", title=f"mean {said} over epochs", scale=alt.Scale(zero=False)),
        color=colour,
        opacity=alt.condition(f"datum.flag == '{FLAGS[0]}'", alt.value(0.35), alt.value(0.95)),
        tooltip=[
            alt.Tooltip("index:Q", title="sample", format="d"),
            *([alt.Tooltip("file:N")] if named else []),
            alt.Tooltip("mean:Q", format=".3~g"),
            alt.Tooltip("spread:Q", format=".3~g"),
            alt.Tooltip("flag:N"),
        ],
    )
    return chart_spec([base.mark_circle(size=18, clip=True)], height=320)


def _share_axes(charts: list[Chart], tables: dict[str, Table]) -> list[str]:
    """The same domains in every map, so that runs compare; a note for each run that reaches beyond them."""
    if len(charts) < 2:
        return []
    beyond: dict[str, int] = {}
    for axis, column in (("x", "spread"), ("y", "mean")):
        values = {table["run"][0]: table[column] for table in tables.values()}
        low = 0.0 if axis == "x" else min(map(min, values.values()))
        high = low + shared_top([max(of_run) - low for of_run in values.values()], FAR)
        for run, of_run in values.items():
            beyond[run] = beyond.get(run, 0) + sum(value > high for value in of_run)
        for chart in charts:
            for layer in chart.spec.get("layer", [chart.spec]):
                layer["encoding"][axis]["scale"] = {"domain": [low, high]}
    return [f"{run}: {count:,} of its samples lie beyond the shared axes." for run, count in beyond.items() if count]
