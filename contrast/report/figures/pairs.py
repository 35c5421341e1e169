"""Report figures on pairs: gallery of views and hard negatives, data map and bad pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
from jaxtyping import Int
from markupsafe import Markup

from contrast.report.chart_kinds import Kind, kinds_chart, sparkline
from contrast.report.charts import Axis, Chart, Figure, Missing, Table, chart_spec, shared_top
from contrast.report.curves import STEP, curve, extend, has_lone_point
from contrast.report.run_record import RunRecord
from contrast.report.samples import Gallery, HardNegative, Pair, Pictures, Query, Samples

__all__ = ["bad_pairs", "data_map", "gallery"]

GALLERY_NAME, GALLERY_TITLE = "gallery", "Gallery"
GALLERY_READING = (
    "The two views of a training sample, with its loss over training. High losses come from pairs whose views show "
    "different things, or from samples that look like others; pairs of two flat views have the lowest losses. Below: "
    "queries with the negatives that have most of their gradient; marked negatives have the query's class and are "
    "false negatives."
)
GALLERY_REASON = "gallery.jsonl has no rows yet: they are written at the end of some epochs."
GROUPS = {"highest": "Highest loss", "lowest": "Lowest loss", "flagged": "Flagged as bad pairs"}
BY_SCORE = {"highest": "Lowest positive score", "lowest": "Highest positive score"}
GALLERY_KINDS = {"shared": "", "mined": "mined", "pair_mix": "mix of negatives", "query_mix": "mix with the query"}
BUDGET = 2_500_000
"""Total size of the pictures on a page, in bytes; several runs share it equally."""
FEWER = 6
"""Number of pairs per group on a page of several runs; the number of queries is half of it."""


@dataclass(frozen=True)
class Card:
    """Pair of views, as the template shows it.

    Attributes:
        pair: the recorded pair.
        pictures: data URLs of its views.
        history: sparkline of its loss, or of its positive score, over epochs.
    """

    pair: Pair
    pictures: tuple[str, ...]
    history: Markup


@dataclass(frozen=True)
class Strip:
    """Query with its hardest negatives, as the template shows it.

    Attributes:
        query: the recorded query.
        picture: data URL of its picture.
        history: sparkline of its sample's loss over epochs.
        negatives: for each negative, the record, the data URL of its picture, its kind in words, and whether it is of
            the query's class.
    """

    query: Query
    picture: str
    history: Markup
    negatives: tuple[tuple[HardNegative, str, str, bool], ...]


@dataclass(frozen=True)
class Wall:
    """Gallery of one run, as the template shows it.

    Attributes:
        run: name of the run.
        epoch: the epoch that was recorded, from 0.
        groups: groups of pairs with their headings.
        strips: queries with their hardest negatives.
    """

    run: str
    epoch: int
    groups: tuple[tuple[str, tuple[Card, ...]], ...]
    strips: tuple[Strip, ...]


def gallery(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: gallery of pairs and hard negatives, from the newest row of each run's gallery.jsonl."""
    table: Table = {}
    walls, notes = [], []
    known = [(run, run.gallery) for run in runs if run.gallery is not None]
    for run, found in known:
        pictures = Pictures(run.path, BUDGET // len(known))
        walls.append(_wall(run.name, found, pictures, len(runs) > 1))
        _add_gallery(table, run.name, found)
        if pictures.left_out:
            notes.append(f"{run.name}: {pictures.left_out} pictures are not shown; the folder gallery/ has them.")
    if not walls:
        return Missing(GALLERY_NAME, GALLERY_TITLE, GALLERY_REASON)
    notes += [f"{run.name}: no gallery yet." for run in runs if run.gallery is None]
    words = {"walls": walls}
    return Figure(
        GALLERY_NAME, GALLERY_TITLE, GALLERY_READING, (), {"gallery": table}, tuple(notes), "gallery.html", words=words
    )


def _wall(run: str, found: Gallery, pictures: Pictures, several: bool) -> Wall:
    by_loss = any(pair.loss is not None for pairs in found.groups.values() for pair in pairs)
    titles = GROUPS if by_loss else GROUPS | BY_SCORE
    most = FEWER if several else None
    groups = tuple(
        (titles[name], tuple(_card(pair, pictures) for pair in pairs[:most])) for name, pairs in found.groups.items()
    )
    strips = tuple(_strip(query, pictures) for query in found.queries[: FEWER // 2 if several else None])
    return Wall(run, found.epoch, groups, strips)


def _card(pair: Pair, pictures: Pictures) -> Card:
    values, name = (pair.losses, "loss") if pair.losses else (pair.positives, "positive score")
    label = f"{name} of sample {pair.index} over {len(values)} epochs"
    return Card(pair, tuple(filter(None, map(pictures.url, pair.pictures))), sparkline(values, label))


def _strip(query: Query, pictures: Pictures) -> Strip:
    def shown(each: HardNegative) -> tuple[HardNegative, str, str, bool]:
        same = each.label is not None and each.label == query.label
        return each, pictures.url(each.picture), GALLERY_KINDS[each.kind], same

    history = sparkline(query.losses, f"loss of sample {query.index} over {len(query.losses)} epochs")
    return Strip(query, pictures.url(query.picture), history, tuple(shown(each) for each in query.negatives))


def _add_gallery(table: Table, run: str, found: Gallery) -> None:
    """Append the recorded pairs and negatives of a run to the table behind the CSV button."""
    for name, pairs in found.groups.items():
        for pair in pairs:
            of = {"group": name, "query": None, "index": pair.index, "label": pair.label, "kind": pair.flag}
            of |= {"class": pair.class_name, "path": pair.path}
            own = {"loss": pair.loss, "positive": pair.positive, "weight": pair.weight}
            extend(table, run=run, **of, **own, score=None, share=None)
    for query in found.queries:
        for each in query.negatives:
            of = {"group": "negative", "query": query.index, "index": each.index, "label": each.label}
            of |= {"class": each.class_name, "path": each.path}
            own = dict.fromkeys(("loss", "positive", "weight"))
            extend(table, run=run, **of, kind=each.kind, **own, score=each.score, share=each.share)


DATA_MAP_NAME, DATA_MAP_TITLE = "data-map", "Data map"
DATA_MAP_READING = (
    "One point per training sample (dataset cartography, Swayamdipta et al., EMNLP 2020, arXiv 2009.10795). Vertical: "
    "its mean {quantity} over epochs; horizontal: the standard deviation. Low and left: pairs that are easy in every "
    "epoch. High and left: pairs that stay hard; see the gallery. Right: pairs whose {quantity} depends on the views."
)
DATA_MAP_REASON = "pairs/all_epochs.safetensors is missing, or has no sample with two epochs yet."
MOST_POINTS = 3000
"""Largest number of samples drawn per run; up to as many flagged samples are drawn in addition."""
FAR = 10.0
"""Largest ratio of the shared extent of an axis to the smallest extent of a run."""
FLAGS = {0: "not flagged", 1: "noisy", 2: "faulty"}
COLOURS = {"not flagged": "theme:run-0", "noisy": "theme:run-2", "faulty": "theme:run-1"}


def data_map(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: data map of each run (mean and standard deviation by sample) on shared axes.

    The quantity is the loss, or the positive score where a run's loss gives no loss by sample.
    """
    known = [(run, samples) for run in runs if (samples := run.samples) is not None]
    if not known:
        return Missing(DATA_MAP_NAME, DATA_MAP_TITLE, DATA_MAP_REASON)
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
                f"and up to {MOST_POINTS:,} flagged samples."
            )
    if not charts:
        return Missing(DATA_MAP_NAME, DATA_MAP_TITLE, DATA_MAP_REASON)
    notes += _share_axes(charts, tables)
    said = "loss" if by_loss else "positive score"
    return Figure(
        DATA_MAP_NAME, DATA_MAP_TITLE, DATA_MAP_READING.format(quantity=said), tuple(charts), tables, tuple(notes)
    )


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
    """Set the same axis limits in every data map; return a note for each run with samples beyond them."""
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


BAD_PAIRS_NAME, BAD_PAIRS_TITLE = "bad-pairs", "Bad pairs"
BAD_PAIRS_READING = (
    "Bad-pair mining flags samples whose mean loss is far from the others' loss: far below (noisy: the views are alike "
    "without meaning) or far above (faulty: the views do not match). Left: the flagged share of the batch; right: the "
    "mean weight of flagged samples. The gallery and flagged.jsonl list the flagged samples."
)
BAD_PAIRS_REASON = "The loss has no bad-pair mining."
SHARES = (Kind("noisy", "run-2"), Kind("faulty", "run-1"))
WEIGHT = (Kind("mean weight", "run-0"),)


def bad_pairs(runs: Sequence[RunRecord]) -> Figure | Missing:
    """Figure: share of pairs that bad-pair mining flags, and their mean weight, over training."""
    shares: Table = {}
    weights: Table = {}
    for run in runs:
        for kind in SHARES:
            for step, share in curve(run.metrics, f"bad_pairs/{kind.name}"):
                extend(shares, run=run.name, kind=kind.name, step=step, value=share)
        for step, weight in curve(run.metrics, "bad_pairs/weight"):
            extend(weights, run=run.name, kind=WEIGHT[0].name, step=step, value=weight)
    if not shares:
        return Missing(BAD_PAIRS_NAME, BAD_PAIRS_TITLE, BAD_PAIRS_REASON)
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
        charts.append(Chart("weights", spec, "Weight of flagged samples"))
    quiet = [run.name for run in runs if run.name in shares["run"] and not weights]
    return Figure(
        BAD_PAIRS_NAME,
        BAD_PAIRS_TITLE,
        BAD_PAIRS_READING,
        tuple(charts),
        tables,
        tuple(f"{name}: no sample is flagged." for name in quiet),
    )
