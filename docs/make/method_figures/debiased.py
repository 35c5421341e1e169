"""Debiased and HCL: how much each negative counts by its score, and where the floor takes over."""

from __future__ import annotations

import altair as alt
import torch

from contrast import Pairs
from contrast.losses import HCL, ContrastiveLoss, Objective
from contrast.losses.objectives import corrected_negatives
from docs.make.method_figures.digits import against_queue, embedded
from docs.make.method_figures.drawing import MUTED, SERIES, beside, colours, panel, said, table, x_axis, y_axis

TEMPERATURE, BETAS, SHARES = 0.5, (0.0, 0.5, 1.0, 2.0), (0.05, 0.1, 0.2)


def draw() -> alt.TopLevelMixin:
    return beside(_weights(), _floor())


def _weights() -> alt.LayerChart:
    """Gradient of the loss in each negative's score, as a share of a query's whole, times how many there are."""
    pairs = against_queue(embedded(30), 1, 512)
    chosen = dict(zip((f"β = {beta:g}" for beta in BETAS), SERIES, strict=False))
    rows: dict[str, list[object]] = {"kind": [], "score": [], "weight": []}
    scores = (pairs.query @ pairs.negatives.T)[0]
    order = scores.argsort()
    for kind, beta in zip(chosen, BETAS, strict=True):
        force = pull(HCL(0.0, beta), pairs)[order]
        rows["kind"] += [kind] * len(order[::4])
        rows["score"] += scores[order][::4].tolist()
        rows["weight"] += (force * len(force) / force.sum())[::4].tolist()
    line = (
        alt.Chart(table(**rows))
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x_axis("score", "score of the negative"),
            y=alt.Y(
                "weight:Q",
                title="pull away from the query (mean 1)",
                scale=alt.Scale(type="symlog", constant=1, domain=[-3, 60], nice=False),
                axis=alt.Axis(values=[-2, 0, 1, 2, 5, 10, 20, 50]),
            ),
            color=colours("kind", chosen, columns=4, symbol="stroke"),
        )
    )
    one = alt.Chart(table(y=[1.0])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="y:Q")
    note = f"One digit, τ = {TEMPERATURE:g}, 512 negatives; below 0: pulled towards it"
    return panel(line, one, title="HCL: harder negatives count more", note=note, width=345)


def pull(objective: Objective, pairs: Pairs) -> torch.Tensor:
    """How hard the loss pushes each negative's score down."""
    width = pairs.negatives.shape[-1]
    unit = torch.eye(width)[:1]  # a negative s·e₁ has the score s with the query e₁
    score = (pairs.query @ pairs.negatives.T)[0].requires_grad_()
    rows = score[:, None] * unit
    positive = (pairs.query * pairs.positive).sum() * unit
    made = Pairs(unit, positive, rows, pairs.index, pairs.negative_index)
    loss = ContrastiveLoss(objective, TEMPERATURE)
    return torch.autograd.grad(loss.of_logits(made, *loss.logits(made)).sum(), score)[0]


def _floor() -> alt.LayerChart:
    """log(G/N) as the positive comes nearer, all else equal."""
    pairs = against_queue(embedded(30), 1, 512)
    positive = torch.linspace(0.0, 1.0, 101)
    chosen = dict(zip(("share 0", *(f"{share:g}" for share in SHARES)), SERIES, strict=False))
    rows: dict[str, list[object]] = {"kind": [], "score": [], "mean": []}
    loss = ContrastiveLoss(HCL(0.0, 0.0), TEMPERATURE)
    at, negatives = loss.logits(pairs)
    for kind, share in zip(chosen, (0.0, *SHARES), strict=True):
        logit = (positive / TEMPERATURE)[:, None]
        total = torch.stack([corrected_negatives(type(at)(each, each), negatives, share, 0.0) for each in logit])
        rows["kind"] += [kind] * len(positive)
        rows["score"] += positive.tolist()
        rows["mean"] += (total[:, 0] - negatives.count.log()).exp().tolist()
    least = float(negatives.logit_of(-1.0).exp())
    line = (
        alt.Chart(table(**rows))
        .mark_line(strokeWidth=2.2, clip=True)
        .encode(
            x=x_axis("score", "score of the positive", [0, 1]),
            y=y_axis("mean", "G/N (log scale)", [0.1, 3], log=True, values=[0.1, 0.2, 0.5, 1, 2]),
            color=colours("kind", chosen, columns=4, symbol="stroke"),
        )
    )
    floor = alt.Chart(table(y=[least])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="y:Q")
    words = said(0, least, "floor exp(−1/τ)", dx=6, dy=9)
    note = "One digit's negatives as its positive moves, by the share taken off"
    return panel(line, floor, words, title="Debiased: what is taken off, and the floor", note=note, width=345)
