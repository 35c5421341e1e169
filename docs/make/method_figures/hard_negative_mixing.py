"""MoCHi: where the mixes lie on the circle, and how hard they are among real negatives."""

from __future__ import annotations

import altair as alt
import torch

from contrast import queue_pairs
from contrast.losses import HardNegativeMixing
from contrast.losses.hard_negative_mixing import hardest_rows, mix_pairs, mix_with_query
from docs.make.method_figures import circle
from docs.make.method_figures.digits import against_queue, embedded
from docs.make.method_figures.drawing import (
    NEGATIVE,
    PAIR_MIX,
    PALE_NEGATIVE,
    POSITIVE,
    QUERY,
    QUERY_MIX,
    Layer,
    beside,
    densities,
    panel,
)

KINDS = {
    "all negatives": PALE_NEGATIVE,
    "64 hardest": NEGATIVE,
    "pair mix": PAIR_MIX,
    "query mix": QUERY_MIX,
    "positive": POSITIVE,
}


def draw() -> alt.TopLevelMixin:
    return beside(_circle(), _scores())


def _circle() -> alt.LayerChart:
    query, positive = circle.at(96), circle.at(71)
    negatives = circle.at(28, 2, 143, 166, 200, 222, 247, 268, 291, 312, 336)
    pairs = queue_pairs(query, positive, negatives, torch.tensor([0]), torch.arange(1, 1 + len(negatives)))
    hard, _ = hardest_rows(pairs, 4)
    ends = torch.tensor([[0, 2, 0], [1, 3, 2]])[:, None]  # which of the four hardest are mixed
    mixed = mix_pairs(hard, ends[0], ends[1], torch.tensor([[0.5, 0.45, 0.5]], dtype=torch.float64))[0]
    partners = torch.tensor([[1, 3]])
    with_query = mix_with_query(query, hard, partners, torch.tensor([[0.47, 0.42]], dtype=torch.float64))[0]
    rows: list[Layer] = [
        circle.circle(1.15),
        circle.segments(hard[0, ends[0, 0]], hard[0, ends[1, 0]], PAIR_MIX, dash=(3, 3)),
        circle.segments(query.expand(2, 2), hard[0, partners[0]], QUERY_MIX, dash=(3, 3)),
        circle.dots(negatives, PALE_NEGATIVE),
        circle.dots(hard[0], NEGATIVE),
        circle.dots(mixed, PAIR_MIX, shape="diamond", size=130),
        circle.dots(with_query, QUERY_MIX, shape="diamond", size=130),
        circle.dots(positive, POSITIVE, size=120),
        circle.dots(query, QUERY, size=120),
        circle.named(query[0], "query", QUERY),
        circle.named(positive[0], "positive", POSITIVE),
    ]
    note = "Four hardest rows; dashed: what is mixed, then brought to length 1"
    return panel(*rows, title="Mixes of the hardest negatives", note=note, width=310, height=310, offset=18)


def _scores() -> alt.LayerChart:
    pairs = against_queue(embedded(30), 128, 1024)
    mixed = HardNegativeMixing(hardest=64, pairs=64, queries=16, start_epoch=0)(pairs)
    assert mixed.own_negatives is not None
    own = torch.einsum("bd,bsd->bs", pairs.query, mixed.own_negatives)
    hard, _ = hardest_rows(pairs, 64)
    scores = {
        "all negatives": pairs.query @ pairs.negatives.T,
        "64 hardest": torch.einsum("bd,bsd->bs", pairs.query, hard),
        "pair mix": own[:, :64],
        "query mix": own[:, 64:],
        "positive": (pairs.query * pairs.positive).sum(dim=-1),
    }
    drawn = densities(scores, KINDS, (-0.6, 1.0), "score (cosine similarity)")
    note = "128 queries, 1,024 negatives, 30 epochs on digits; dashed: means"
    return panel(*drawn, title="How hard the mixes are", note=note, width=400, height=280)
