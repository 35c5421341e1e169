"""MoCo v3: two matrices, each view's queries against the other view's keys."""

from __future__ import annotations

import altair as alt
import torch

from contrast.pairs import cross_pairs
from docs.make.method_figures.drawing import beside
from docs.make.method_figures.pair_matrix import KINDS, matrix, unit_rows

SAMPLES = 6


def draw() -> alt.TopLevelMixin:
    kinds = {name: KINDS[name] for name in ("positive", "negative", "left out: own sample")}
    drawn = []
    for queries, keys, index, title, note in (
        ("a", "b", [0, 1, 2, 3, 4, 5], "First direction", "Predictions against the other view's keys"),
        ("b", "a", [0, 1, 2, 3, 4, 5], "Second direction", "The same, the views exchanged"),
        ("a", "b", [0, 1, 2, 3, 4, 4], "Sample 4 twice", "Left out by index, as everywhere"),
    ):
        pairs = cross_pairs(unit_rows(SAMPLES), unit_rows(SAMPLES, seed=1), torch.tensor(index))
        names = [[f"{kind}{sample}{view}" for sample in index] for kind, view in (("q", queries), ("k", keys))]
        drawn.append(matrix(pairs, *names, title, note, kinds, across="keys, without gradient"))
    return beside(*drawn, spacing=70)
