"""BYOL: where the gradient goes, and how the target's momentum rises."""

from __future__ import annotations

import altair as alt
import torch

from contrast.losses import BYOLLoss
from contrast.methods.base import rising_momentum
from docs.make.method_figures.drawing import SERIES, beside, colours, panel, table, x_axis, y_axis
from docs.make.method_figures.simsiam import pulls


def draw() -> alt.TopLevelMixin:
    note = "z is of the target, a slow copy: it has no gradient"
    return beside(pulls(BYOLLoss(), "target z", note), _momentum(), spacing=70)


def _momentum() -> alt.LayerChart:
    share = torch.linspace(0, 1, 81).tolist()
    starts = (0.9, 0.99, 0.996)
    chosen = dict(zip((f"from {start:g}" for start in starts), SERIES, strict=False))
    rows: dict[str, list[object]] = {"kind": [], "share": [], "left": []}
    for kind, start in zip(chosen, starts, strict=True):
        for done in share[:-1]:
            for name, value in zip(rows, (kind, done, 1 - rising_momentum(start, done)), strict=True):
                rows[name].append(value)
    line = (
        alt.Chart(table(**rows))
        .mark_line(strokeWidth=2.2, clip=True)
        .encode(
            x=x_axis("share", "share of the run", [0, 1], number="%"),
            y=y_axis("left", "1 − m (log scale)", [1e-5, 0.2], log=True, values=[1e-4, 1e-3, 1e-2, 1e-1]),
            color=colours("kind", chosen, columns=3, symbol="stroke"),
        )
    )
    note = "How much of the network goes into the target at each step"
    return panel(line, title="The target slows down", note=note, width=380, height=280)
