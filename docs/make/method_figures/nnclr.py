"""NNCLR: the neighbour that stands in for a view, and the N-way matrix of its scores."""

from __future__ import annotations

import altair as alt
import torch

from contrast.pairs import cross_pairs
from contrast.search.exact import nearest
from docs.make.method_figures import circle
from docs.make.method_figures.drawing import PALE_NEGATIVE, POSITIVE, QUERY, SERIES, beside, panel
from docs.make.method_figures.pair_matrix import KINDS, matrix, unit_rows

SAMPLES = 8


def draw() -> alt.TopLevelMixin:
    kinds = {name: KINDS[name] for name in ("positive", "negative")}
    rows, predictions = unit_rows(SAMPLES), unit_rows(SAMPLES, seed=1)
    drawn = matrix(
        cross_pairs(rows, predictions, torch.arange(SAMPLES)),
        [f"nn({sample}a)" for sample in range(SAMPLES)],
        [f"{sample}b" for sample in range(SAMPLES)],
        "N-way",
        "Neighbour against the batch's predictions",
        kinds,
        across="predictions p of the other view",
    )
    return beside(_neighbours(), drawn, spacing=90)


def _neighbours() -> alt.LayerChart:
    embedded, predicted = circle.at(80, 205, 320), circle.at(28, 160, 282)
    support = circle.at(5, 48, 92, 118, 142, 183, 221, 245, 262, 300, 336)
    _, columns = nearest(embedded.float(), support.float(), 1)
    found = support[columns[:, 0]]
    rows = [
        circle.circle(1.25),
        circle.dots(support, PALE_NEGATIVE),
        circle.arrows(0.97 * predicted, 0.97 * found, POSITIVE, dash=(4, 3)),
        circle.dots(found, SERIES[2], size=110),
        circle.dots(embedded, QUERY, size=60),
        circle.dots(predicted, POSITIVE, size=110),
        circle.named(embedded[0], "z of one view", QUERY),
        circle.named(found[1], "nn(z)", SERIES[2]),
        circle.named(predicted[0], "p of the other", POSITIVE),
    ]
    note = "Light: the support queue; p is pulled to nn(z), not to z"
    return panel(*rows, title="The nearest row takes the view's place", note=note, width=290, height=290, offset=52)
