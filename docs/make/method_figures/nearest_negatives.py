"""Nearest negatives: the strata that a bank offers, and how many of them are of the query's class."""

from __future__ import annotations

import altair as alt
import torch
from torch import Tensor

from contrast.banks import FaissBank, Hardest, Stratified
from docs.make.method_figures import digits
from docs.make.method_figures.drawing import (
    MUTED,
    NEGATIVE,
    PALE_NEGATIVE,
    POSITIVE,
    QUERY_MIX,
    SERIES,
    beside,
    colours,
    densities,
    panel,
    said,
    table,
    x_axis,
    y_axis,
)

HARDEST, SEMI_HARD, RANDOM, POOL = 32, 64, 128, 256
EPOCHS = (0, 5, 40)


def draw() -> alt.TopLevelMixin:
    return beside(_strata(), _ranks(), spacing=56)


def filled(rows: digits.Embedded, mining: Hardest | Stratified) -> FaissBank:
    """A bank with the second view of every digit."""
    bank = FaissBank(rows.second.shape[1], len(rows.sample), per_sample=True, mining=mining)
    bank.store(rows.second, rows.sample)
    return bank


def _strata() -> alt.LayerChart:
    rows = digits.embedded(EPOCHS[-1])
    mining = Stratified(HARDEST, SEMI_HARD, RANDOM, POOL)
    offered = filled(rows, mining).negatives(rows.first, rows.sample)
    assert offered.own is not None
    scores = torch.einsum("bd,bsd->bs", rows.first, offered.own)
    hardest, semi_hard, random = scores.split([HARDEST, SEMI_HARD, RANDOM], dim=1)
    values = {
        "positive": (rows.first * rows.second).sum(dim=1),
        f"{HARDEST} hardest": hardest,
        f"{SEMI_HARD} semi-hard": semi_hard,
        f"{RANDOM} random": random,
    }
    chosen = dict(zip(values, (POSITIVE, NEGATIVE, QUERY_MIX, PALE_NEGATIVE), strict=True))
    layers = densities(values, chosen, (-0.6, 1.0), "score with the query", columns=2)
    return panel(*layers, title="What a query meets", note=f"Strata out of {len(rows.sample):,} keys; dashed: means")


def same_class(rows: digits.Embedded, count: int) -> Tensor:
    """The share of queries whose r-th nearest key of another sample is of their class, (count,)."""
    found = filled(rows, Hardest(count)).negatives(rows.first, rows.sample).own_index
    assert found is not None
    return (rows.labels[found] == rows.labels[:, None]).double().mean(dim=0)


def _ranks() -> alt.LayerChart:
    count = 1024
    names = {f"{epochs} epochs": epochs for epochs in EPOCHS}
    places = torch.unique(torch.logspace(0, 10, 40, base=2).round().long())
    rank, share, run = [], [], []
    for name, epochs in names.items():
        rates = same_class(digits.embedded(epochs), count)
        for start, stop in zip([0, *places[:-1].tolist()], places.tolist(), strict=True):
            rank.append(stop)
            share.append(100 * float(rates[start:stop].mean()))
            run.append(name)
    across = x_axis("rank", "rank among the keys", (1, count), log=True, values=[1, 3, 10, 30, 100, 300, 1000])
    up = y_axis("share", "of the query's class (%)", (0, 100))
    chosen = dict(zip(names, (SERIES[4], SERIES[2], SERIES[0]), strict=True))
    lines = alt.Chart(table(rank=rank, share=share, run=run)).encode(
        x=across, y=up, color=colours("run", chosen, columns=3, symbol="stroke")
    )
    chance = alt.Chart(table(y=[10.0])).mark_rule(strokeDash=[4, 3], color=MUTED).encode(y="y:Q")
    words = said(1.2, 10.0, "random", dy=9)
    title, note = "The nearest are often of the query's class", "Digits, after so many epochs of SimCLR"
    return panel(lines.mark_line(strokeWidth=2), chance, words, title=title, note=note, offset=5)
