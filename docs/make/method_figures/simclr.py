"""SimCLR: what every row of a batch is to every other."""

from __future__ import annotations

import altair as alt
import torch

from contrast import in_batch_pairs
from docs.make.method_figures.drawing import beside
from docs.make.method_figures.pair_matrix import KINDS, matrix, unit_rows

SAMPLES = 5


def draw() -> alt.TopLevelMixin:
    first, second = unit_rows(SAMPLES), unit_rows(SAMPLES, seed=1)
    kinds = {name: colour for name, colour in KINDS.items() if "random" not in name}
    drawn = []
    for index, title, note in (
        ([0, 1, 2, 3, 4], "Five samples, two views", "Each query has 2(N − 1) = 8 negatives"),
        ([0, 1, 2, 3, 3], "Sample 3 is in the batch twice", "Its rows are no negatives of each other"),
    ):
        names = [f"{sample}{view}" for view in "ab" for sample in index]
        pairs = in_batch_pairs(first, second, torch.tensor(index))
        drawn.append(matrix(pairs, names, names, title, note, kinds, across="rows of both views"))
    return beside(*drawn, spacing=60)
