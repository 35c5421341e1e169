"""SimSiam: where the gradient goes, and what becomes of the embeddings without its two parts."""

from __future__ import annotations

import altair as alt
import torch
from torch import nn

from contrast.losses import SimSiamLoss
from contrast.models import MLPHead
from contrast.pairs import negative_free_pairs
from docs.make.method_figures import circle
from docs.make.method_figures.digits import encoder, fit
from docs.make.method_figures.drawing import (
    MUTED,
    POSITIVE,
    QUERY,
    SERIES,
    beside,
    colours,
    panel,
    table,
    x_axis,
    y_axis,
)

WIDTH, EPOCHS = 64, 30
KINDS = {
    "SimSiam": SERIES[0],
    "gradient through z too": SERIES[1],
    "no predictor": SERIES[4],
}


def draw() -> alt.TopLevelMixin:
    return beside(pulls(SimSiamLoss(), "z", "z has no gradient: p alone is pulled"), _spread(), spacing=70)


def pulls(loss: nn.Module, name: str, note: str) -> alt.LayerChart:
    """Descent directions of two directions' predictions and targets, by autograd."""
    predictions, targets = circle.at(112, 262), circle.at(58, 318)
    index = torch.arange(2)
    live = [rows.clone().requires_grad_() for rows in (predictions, targets)]
    loss(negative_free_pairs(*live, index)).loss.backward()
    assert live[1].grad is None or not live[1].grad.any()
    step = -live[0].grad
    tangent = step - (step * predictions).sum(dim=1, keepdim=True) * predictions  # along the circle
    rows = [
        circle.circle(1.3),
        circle.segments(predictions, targets, MUTED, dash=(2, 4)),
        circle.arrows(predictions, predictions + 0.5 * tangent / tangent.norm(dim=1, keepdim=True), QUERY),
        circle.dots(predictions, QUERY, size=110),
        circle.dots(targets, POSITIVE, size=110, filled=False),
        circle.named(predictions[0], "p of view a", QUERY),
        circle.named(targets[0], f"{name} of view b", POSITIVE),
        circle.named(predictions[1], "p of view b", QUERY),
        circle.named(targets[1], f"{name} of view a", POSITIVE),
    ]
    return panel(*rows, title="Where the gradient goes", note=note, width=300, height=300)


def _spread() -> alt.LayerChart:
    rows: dict[str, list[object]] = {"kind": [], "step": [], "spread": []}
    for kind in KINDS:
        spread = _run(kind)
        rows["kind"] += [kind] * len(spread)
        rows["step"] += list(range(1, 1 + len(spread)))
        rows["spread"] += spread
    line = (
        alt.Chart(table(**rows))
        .mark_line(strokeWidth=2)
        .encode(
            x=x_axis("step", "training step", [0, len(spread)]),
            y=y_axis("spread", "deviation of unit embeddings × √d", [0, 1.1]),
            color=colours("kind", KINDS, columns=3, symbol="stroke"),
        )
    )
    one = alt.Chart(table(y=[1.0])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="y:Q")
    note = "On digits; at 1 rows are spread all over the sphere, at 0 all alike"
    return panel(line, one, title="What keeps them from collapsing", note=note, width=380, height=280)


def _run(kind: str) -> list[float]:
    def head(width: int) -> MLPHead:
        return MLPHead(width, 128, WIDTH, layers=2, batch_norm=True, final_batch_norm=True)

    net = encoder(head)
    predictor = nn.Identity() if kind == "no predictor" else MLPHead(WIDTH, 32, WIDTH, batch_norm=True)
    loss, spread = SimSiamLoss(), []

    def loss_of(step: int, epoch: int, both: tuple[torch.Tensor, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        projected = [net(view) for view in both]
        p = [nn.functional.normalize(predictor(rows), dim=-1) for rows in projected]
        z = [nn.functional.normalize(rows, dim=-1) for rows in projected]
        spread.append(z[0].detach().std(dim=0).mean().item() * WIDTH**0.5)
        if kind == "gradient through z too":
            return -(p[0] * z[1]).sum(dim=-1).mean() / 2 - (p[1] * z[0]).sum(dim=-1).mean() / 2
        pairs = (negative_free_pairs(p[place], z[1 - place].detach(), index, view=place) for place in (0, 1))
        result: torch.Tensor = loss(*pairs).loss
        return result

    fit(nn.ModuleList([net, predictor]), loss_of, EPOCHS)
    return spread
