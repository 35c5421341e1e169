"""LOOK: which of a queue's rows a query's loss touches, read off the gradient."""

from __future__ import annotations

import altair as alt
import torch

from contrast import Pairs, queue_pairs
from contrast.losses import LOOK
from docs.make.method_figures.drawing import PALE_NEGATIVE, POSITIVE, beside
from docs.make.method_figures.pair_matrix import cell_panel, unit_rows

KINDS = {
    "positive: neighbour of the class": POSITIVE,
    "negative: neighbour of another": PALE_NEGATIVE,
    "no neighbour": "#eceae5",
    "left out: own sample": "#b9bec6",
}
CLASSES = "AABBCCABCABCABCC"
QUERIES = 5


def draw() -> alt.TopLevelMixin:
    return beside(*(_matrix(neighbours) for neighbours in (3, 6)), spacing=60)


def _matrix(neighbours: int) -> alt.LayerChart:
    labels = torch.tensor(["ABC".index(name) for name in CLASSES])
    samples = torch.tensor([0, *range(QUERIES, 16)])  # one row is of the first query's own sample
    query, rows = unit_rows(QUERIES, seed=11), unit_rows(len(samples), seed=12)
    pairs = queue_pairs(query, unit_rows(QUERIES, seed=13), rows, torch.arange(QUERIES), samples)
    pull = _pull(LOOK(labels, neighbours, temperature=0.5), pairs)
    cells: dict[str, list[object]] = {"row": [], "column": [], "kind": []}
    for row in range(QUERIES):
        order = (query[row] @ rows.T).argsort(descending=True)
        for place, column in enumerate(order.tolist()):
            own = int(samples[column]) == row
            touched = abs(float(pull[row, column])) > 1e-7
            same = labels[row] == labels[samples[column]]
            kind = list(KINDS)[3 if own else 2 if not touched else 0 if same else 1]
            for name, value in zip(cells, (row, place, kind), strict=True):
                cells[name].append(value)
    names = [f"{CLASSES[sample]}{sample}" for sample in range(QUERIES)]
    ranks = [str(rank) for rank in range(1, 1 + len(samples))]
    return cell_panel(
        cells,
        names,
        ranks,
        KINDS,
        f"k = {neighbours}",
        "Queue rows, nearest first" + ("; the nearest of the class joins" if neighbours == 3 else ""),
        across="rank by score",
    )


def _pull(loss: LOOK, pairs: Pairs) -> torch.Tensor:
    """How each query's loss depends on its score with each row."""
    pulls = []
    for row in range(QUERIES):
        rows = pairs.negatives.clone().requires_grad_()
        one = slice(row, row + 1)
        alone = Pairs(pairs.query[one], pairs.positive[one], rows, pairs.index[one], pairs.negative_index)
        gradient = torch.autograd.grad(loss(alone).loss, rows)[0]
        pulls.append(gradient @ pairs.query[row])  # of unit length: the gradient's coefficient
    return torch.stack(pulls)
