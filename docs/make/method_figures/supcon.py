"""SupCon: every row of the class is a positive."""

from __future__ import annotations

import altair as alt
import torch

from contrast import in_batch_pairs
from contrast.losses.labels import LabelTable, labelled_logits
from contrast.losses.temperature import FixedTemperature
from docs.make.method_figures.drawing import PALE_NEGATIVE, POSITIVE, beside
from docs.make.method_figures.pair_matrix import cell_panel, unit_rows

KINDS = {
    "positive: own": POSITIVE,
    "positive: by label": "#86bfd8",
    "negative": PALE_NEGATIVE,
    "left out: the query": "#8b929b",
}


def draw() -> alt.TopLevelMixin:
    drawn = [
        _matrix(torch.tensor([0, 0, 1, 1, 2]), ["A", "A", "B", "B", "C"], "All labelled", "Classes A, A, B, B, C"),
        _matrix(torch.tensor([0, 0, 1, -1, -1]), ["A", "A", "B", "–", "–"], "Two without a label", "They are InfoNCE"),
    ]
    return beside(*drawn, spacing=60)


def _matrix(labels: torch.Tensor, classes: list[str], title: str, note: str) -> alt.LayerChart:
    pairs = in_batch_pairs(unit_rows(5), unit_rows(5, seed=1), torch.arange(5))
    seen = labelled_logits("SupCon", pairs, LabelTable("SupCon", labels), FixedTemperature(0.1))
    own = (pairs.negatives[None] == pairs.positive[:, None]).all(dim=-1)
    itself = (pairs.negatives[None] == pairs.query[:, None]).all(dim=-1)
    cells: dict[str, list[object]] = {"row": [], "column": [], "kind": []}
    for row in range(10):
        for column in range(10):
            if own[row, column]:
                kind = "positive: own"
            elif itself[row, column]:
                kind = "left out: the query"
            elif seen.same[row, column]:
                kind = "positive: by label"
            else:
                assert seen.offered[row, column]
                kind = "negative"
            for name, value in zip(cells, (row, column, kind), strict=True):
                cells[name].append(value)
    names = [f"{sample}{name}" for name in ("a", "b") for sample in classes]
    return cell_panel(cells, names, names, KINDS, title, note, across="class and view of each row")
