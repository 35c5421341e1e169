"""Pairs to look at, as pictures: those that stand out, and queries with their hardest negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from contrast.report.curves import extend
from contrast.report.figure import Figure, Missing, Table
from contrast.report.gallery import Gallery, HardNegative, Pair, Pictures, Query
from contrast.report.run_record import RunRecord
from contrast.report.sparkline import sparkline

__all__ = ["gallery"]

NAME, TITLE = "gallery", "Gallery"
READING = (
    "The two views of a training sample, with its loss over training. High losses are pairs whose views show different "
    "things, or samples that look like others; a pair with two flat views has the lowest. Then queries with the "
    "negatives that their gradient falls on most: a marked one is of the query's own class, a false negative."
)
REASON = "gallery.jsonl has no rows yet: they are written at some epochs' ends."
GROUPS = {"highest": "Highest loss", "lowest": "Lowest loss", "flagged": "Flagged as bad pairs"}
BY_SCORE = {"highest": "Lowest positive score", "lowest": "Highest positive score"}
KINDS = {"shared": "", "mined": "mined", "pair_mix": "mix of negatives", "query_mix": "mix with the query"}
BUDGET = 2_500_000
"""Bytes of pictures that a page of one run may carry; of several, they share it."""
FEWER = 6
"""Pairs in a group, and half as many queries, where a page has several runs."""


@dataclass(frozen=True)
class Card:
    """A pair as the template shows it."""

    pair: Pair
    pictures: tuple[str, ...]
    history: Markup


@dataclass(frozen=True)
class Strip:
    """A query as the template shows it: with its sample's loss over training, and of each negative its picture, its
    kind, and whether it is of the class."""

    query: Query
    picture: str
    history: Markup
    negatives: tuple[tuple[HardNegative, str, str, bool], ...]


@dataclass(frozen=True)
class Wall:
    """One run's gallery."""

    run: str
    epoch: int
    groups: tuple[tuple[str, tuple[Card, ...]], ...]
    strips: tuple[Strip, ...]


def gallery(runs: Sequence[RunRecord]) -> Figure | Missing:
    """The last row of each run's gallery."""
    table: Table = {}
    walls, notes = [], []
    known = [(run, run.gallery) for run in runs if run.gallery is not None]
    for run, found in known:
        pictures = Pictures(run.path, BUDGET // len(known))
        walls.append(_wall(run.name, found, pictures, len(runs) > 1))
        _add(table, run.name, found)
        if pictures.left_out:
            notes.append(f"{run.name}: {pictures.left_out} pictures are left out; the folder gallery/ has them.")
    if not walls:
        return Missing(NAME, TITLE, REASON)
    notes += [f"{run.name}: no gallery yet." for run in runs if run.gallery is None]
    words = {"walls": walls}
    return Figure(NAME, TITLE, READING, (), {"gallery": table}, tuple(notes), "gallery.html", words=words)


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
        return each, pictures.url(each.picture), KINDS[each.kind], same

    history = sparkline(query.losses, f"loss of sample {query.index} over {len(query.losses)} epochs")
    return Strip(query, pictures.url(query.picture), history, tuple(shown(each) for each in query.negatives))


def _add(table: Table, run: str, found: Gallery) -> None:
    """What is shown, as rows for the CSV."""
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
