"""MoCo: the key and the queue that each query sees, in one direction and in two."""

from __future__ import annotations

import altair as alt
import torch

from contrast import Pairs, queue_pairs
from contrast.banks import KeyQueue
from docs.make.method_figures.drawing import beside
from docs.make.method_figures.pair_matrix import KINDS, matrix, unit_rows

BATCH, SIZE = 4, 12


def draw() -> alt.TopLevelMixin:
    kinds = {name: colour for name, colour in KINDS.items() if "itself" not in name}
    index = torch.tensor([0, 1, 2, 3])
    early, late = KeyQueue(8, SIZE), KeyQueue(8, SIZE, seed=1)
    early.store(unit_rows(4, seed=3), torch.tensor([4, 5, 6, 7]))
    for seed, samples in ((4, [8, 9, 4, 0]), (5, [10, 11, 2, 6]), (6, [12, 13, 14, 15])):
        late.store(unit_rows(4, seed=seed), torch.tensor(samples))
    drawn = [
        matrix(
            _pairs(bank, index),
            [f"{sample}a" for sample in index.tolist()],
            [str(sample) if sample >= 0 else "–" for sample in bank.index.tolist()],
            title,
            note,
            kinds,
            across="its key k, and samples of the queue",
        )
        for bank, title, note in (
            (early, "After the first step", "The queue's random start is offered and counted"),
            (late, "Later", "Keys of the query's own sample are left out by index"),
        )
    ]
    return beside(*drawn, spacing=60)


def _pairs(bank: KeyQueue, index: torch.Tensor) -> Pairs:
    query, key = unit_rows(BATCH, seed=7), unit_rows(BATCH, seed=8)
    offered = bank.negatives(query, index)
    return queue_pairs(query, key, offered.keys, index, offered.index, offered.placeholder)
