"""DCL: the factor that InfoNCE puts on its gradient, and DCLW's weight."""

from __future__ import annotations

import altair as alt
import torch

from contrast import Pairs
from contrast.losses import DCL, DCLW, ContrastiveLoss, InfoNCE, Objective
from docs.make.method_figures.digits import against_queue, embedded
from docs.make.method_figures.drawing import MUTED, SERIES, beside, colours, panel, said, table, x_axis, y_axis

QUERIES, TEMPERATURE = 128, 0.1
COUNTS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
STAGES = {"untrained": 0, "after 5 epochs": 5, "after 30 epochs": 30}


def draw() -> alt.TopLevelMixin:
    return beside(_multiplier(), _weight())


def _multiplier() -> alt.LayerChart:
    rows: dict[str, list[float | str]] = {"kind": [], "count": [], "low": [], "middle": [], "high": []}
    for kind, epochs in STAGES.items():
        for count in COUNTS:
            pairs = against_queue(embedded(epochs), QUERIES, count)
            ratio = _slope(InfoNCE(), pairs) / _slope(DCL(), pairs)
            low, middle, high = ratio.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
            for name, value in zip(rows, (kind, count, low, middle, high), strict=True):
                rows[name].append(value)
    chosen = dict(zip(STAGES, (SERIES[3], SERIES[0], SERIES[1]), strict=True))
    base = alt.Chart(table(**rows)).encode(
        x=x_axis("count", "number of negatives", [2, 1024], log=True, number="d", values=[2, 8, 32, 128, 512]),
        color=colours("kind", chosen, columns=3, symbol="stroke"),
    )
    band = base.mark_area(opacity=0.1).encode(y=y_axis("low", "gradient, as a share of DCL's", [0, 1.05]), y2="high:Q")
    line = base.mark_line(strokeWidth=2.2).encode(y="middle:Q")
    ones = alt.Chart(table(y=[1.0])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="y:Q")
    note = "SimCLR on digits, τ 0.1: median of 128 queries, band 10 to 90 %"
    words = said(2, 1, "DCL", dx=6, dy=9)
    return panel(band, line, ones, words, title="What InfoNCE keeps of the gradient", note=note, width=350, offset=18)


def _slope(objective: Objective, pairs: Pairs) -> torch.Tensor:
    """Norm of each query's gradient."""
    query = pairs.query.clone().requires_grad_()
    live = Pairs(query, pairs.positive, pairs.negatives, pairs.index, pairs.negative_index)
    loss = ContrastiveLoss(objective, TEMPERATURE)
    return torch.autograd.grad(loss.of_logits(live, *loss.logits(live)).sum(), query)[0].norm(dim=-1)


def _weight() -> alt.LayerChart:
    rows: dict[str, list[float | str]] = {"kind": [], "score": [], "weight": []}
    pairs = against_queue(embedded(5), 512, 64)
    for sigma in (0.25, 0.5, 1.0):
        positive, negatives = ContrastiveLoss(DCLW(sigma), TEMPERATURE).logits(pairs)
        logit = positive.logit.clone().requires_grad_()
        losses = DCLW(sigma)(type(positive)(positive.score, logit), negatives)
        weight = -torch.autograd.grad(losses.sum(), logit)[0]
        order = positive.score.argsort()[::4]
        rows["kind"] += [f"σ = {sigma:g}"] * len(order)
        rows["score"] += positive.score[order].tolist()
        rows["weight"] += weight[order].tolist()
    chosen = dict(zip(("σ = 0.25", "σ = 0.5", "σ = 1"), SERIES[:3], strict=True))
    encoding = {
        "x": x_axis("score", "score of the positive", [-0.2, 1.0]),
        "y": y_axis("weight", "weight w of the positive logit"),
        "color": colours("kind", chosen, columns=3, symbol="stroke"),
    }
    line = alt.Chart(table(**rows)).mark_line(strokeWidth=2.2, clip=True).encode(**encoding)
    ticks = alt.Chart(table(score=positive.score[::2]))
    rug = ticks.mark_tick(color=MUTED, opacity=0.35, thickness=1, size=8, yOffset=-4, clip=True).encode(
        x="score:Q", y=alt.value(260)
    )
    note = "Ticks: the positives of one batch, over which w has mean 1"
    return panel(line, rug, title="DCLW: far positives weigh more", note=note, width=350)
