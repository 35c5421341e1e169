"""AMCL: what keeps the temperature in the middle, the logits it makes, and the temperatures that digits get."""

from __future__ import annotations

import altair as alt
import torch

from contrast import Pairs
from contrast.losses import AdaptiveTemperature, ContrastiveLoss, HardestNegative, InfoNCE, Objective, amcl_logits
from contrast.losses.temperature import temperature_cost
from contrast.models import MultiHead
from docs.make.method_figures.digits import WIDTH, encoder, head, pretrain
from docs.make.method_figures.drawing import (
    MUTED,
    NEGATIVE,
    POSITIVE,
    SERIES,
    beside,
    colours,
    panel,
    table,
    x_axis,
    y_axis,
)

HEADS, EPOCHS = 3, 15
STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 65, 84)


def draw() -> alt.TopLevelMixin:
    upper = beside(_cost(), _logits())
    lower = beside(
        _learned(InfoNCE(), "τ in training, InfoNCE", "Digits, first head: median, 10 to 90 %; dashed: bounds of τ"),
        _learned(HardestNegative(), "τ in training, HardestNegative", "The same, by the paper's eq. 2.1"),
    )
    return alt.vconcat(upper, lower, spacing=30).resolve_scale(color="independent")


def _cost() -> alt.LayerChart:
    tau = torch.logspace(-2, 0, 80)
    rows: dict[str, list[object]] = {"kind": [], "tau": [], "cost": []}
    chosen = dict(zip((f"d = {width}" for width in (16, 64, 128)), SERIES, strict=False))
    lowest: dict[str, list[object]] = {"kind": [], "tau": [], "cost": []}
    for kind, width in zip(chosen, (16, 64, 128), strict=True):
        rows["kind"] += [kind] * len(tau)
        rows["tau"] += tau.tolist()
        rows["cost"] += temperature_cost(tau, width).tolist()
        best = torch.tensor(2 / width)
        for name, value in zip(lowest, (kind, best.item(), temperature_cost(best, width).item()), strict=True):
            lowest[name].append(value)
    encoding = {
        "x": x_axis("tau", "τ (log scale)", [0.01, 1], log=True, values=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        "y": y_axis("cost", "Ω(τ)"),
        "color": colours("kind", chosen, columns=3, symbol="stroke"),
    }
    line = alt.Chart(table(**rows)).mark_line(strokeWidth=2.2).encode(**encoding)
    dot = alt.Chart(table(**lowest)).mark_point(filled=True, size=60, opacity=1).encode(**encoding)
    note = "Ω = (d/2) log τ + 1/τ; dots: its minimum, at τ = 2/d"
    return panel(line, dot, title="What keeps τ in the middle", note=note, width=330, height=230)


def _logits() -> alt.LayerChart:
    rows: dict[str, list[object]] = {"kind": [], "score": [], "logit": []}
    ends = torch.tensor([-0.3, 1.0])
    temperatures = (0.05, 0.1, 0.2, 0.5)
    chosen = dict(zip((f"τ = {tau:g}" for tau in temperatures), SERIES, strict=False))
    for kind, tau in zip(chosen, temperatures, strict=True):
        rows["kind"] += [kind] * 2
        rows["score"] += ends.tolist()
        rows["logit"] += amcl_logits(ends, torch.tensor(tau), beta=0.01, width=WIDTH).tolist()
    line = (
        alt.Chart(table(**rows))
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x_axis("score", "score s", [-0.3, 1.0]),
            y=y_axis("logit", "logit s/τ − βΩ(τ)"),
            color=colours("kind", chosen, columns=4, symbol="stroke"),
        )
    )
    note = f"β = 0.01, d = {WIDTH}"
    return panel(line, title="The logit of a score, by τ", note=note, width=330, height=230)


def _learned(objective: Objective, title: str, note: str) -> alt.LayerChart:
    """τ of the first head's pairs over the steps of a run: median, and 10 to 90 %."""
    temperature = AdaptiveTemperature(width=WIDTH)
    rows: dict[str, list[object]] = {"kind": [], "step": [], "low": [], "middle": [], "high": []}

    def look(step: int, pairs: Pairs) -> None:
        if step not in STEPS:
            return
        with torch.no_grad():
            other = pairs.index[:, None] != pairs.negative_index
            positive = temperature.of_pairs(pairs.query, pairs.positive)[0]
            negative = temperature.of_pairs(pairs.query[:1, :, None], pairs.negatives[:1, None])[0][other]
        for kind, values in (("positives", positive), ("negatives", negative[::7])):
            marks = values.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
            for name, value in zip(rows, (kind, step + 1, *marks), strict=True):
                rows[name].append(value)

    net = encoder(lambda width: MultiHead(width, head, HEADS))
    pretrain(net, ContrastiveLoss(objective, temperature), EPOCHS, look=look)
    base = alt.Chart(table(**rows)).encode(
        x=x_axis("step", "training step (log scale)", [1, STEPS[-1] + 1], log=True, values=[1, 3, 10, 30, 85]),
        color=colours("kind", {"positives": POSITIVE, "negatives": NEGATIVE}, columns=2, symbol="stroke"),
    )
    band = base.mark_area(opacity=0.18).encode(y=y_axis("low", "τ", [0, 0.55]), y2="high:Q")
    line = base.mark_line(strokeWidth=2.2).encode(y="middle:Q")
    bounds = table(y=[temperature.lowest, temperature.highest])
    rules = alt.Chart(bounds).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y="y:Q")
    return panel(rules, band, line, title=title, note=note, width=330, height=200)
