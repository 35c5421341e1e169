"""Barlow Twins: the cross-correlation before and after a short training."""

from __future__ import annotations

import altair as alt
import torch

from contrast.losses import BarlowTwins
from contrast.losses.redundancy import cross_correlation
from docs.make.method_figures.correlations import WIDTH, heat, raw_embeddings, train
from docs.make.method_figures.drawing import beside

EPOCHS = 20


def draw() -> alt.TopLevelMixin:
    drawn = []
    for epochs, redundancy, title in (
        (0, 0.0051, "Untrained"),
        (EPOCHS, 0.0, f"λ = 0, {EPOCHS} epochs"),
        (EPOCHS, 0.1, f"λ = 0.1, {EPOCHS} epochs"),
    ):
        values = cross_correlation(*raw_embeddings(train(BarlowTwins(redundancy), epochs)))
        on = torch.diagonal(values).mean().item()
        off = (values - torch.diag(torch.diagonal(values))).square().sum().div(WIDTH * (WIDTH - 1)).sqrt().item()
        drawn.append(heat(values, title, f"diagonal {on:.2f}, root mean square off it {off:.2f}", 1.0, "C"))
    return beside(*drawn, spacing=36)
