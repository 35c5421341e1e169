"""VICReg: covariances after a short training, without the variance term, without the covariance term, and with both."""

from __future__ import annotations

import altair as alt
import torch

from contrast.losses import VICReg
from docs.make.method_figures.correlations import heat, raw_embeddings, train
from docs.make.method_figures.drawing import beside

EPOCHS = 20


def draw() -> alt.TopLevelMixin:
    drawn = []
    for epochs, weights, title in (
        (EPOCHS, (25.0, 0.0, 1.0), "μ = 0: collapse"),
        (EPOCHS, (25.0, 25.0, 0.0), "ν = 0: dimensions alike"),
        (EPOCHS, (25.0, 25.0, 1.0), "Defaults"),
    ):
        first, _ = raw_embeddings(train(VICReg(*weights), epochs))
        spread = first.std(dim=0)
        note = f"{EPOCHS} epochs; deviations {spread.min().item():.2f} to {spread.max().item():.2f}"
        drawn.append(heat(torch.cov(first.T), title, note, 1.0, "covariance"))
    return beside(*drawn, spacing=36)
