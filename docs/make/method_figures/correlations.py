"""Square matrices of a loss's statistics as heat maps, blue above 0 and orange below."""

from __future__ import annotations

import altair as alt
import torch
from torch import Tensor, nn

from contrast.losses import Loss
from contrast.models import MLPHead
from contrast.pairs import negative_free_pairs
from docs.make.method_figures.digits import encoder, fit, images, views
from docs.make.method_figures.drawing import CARD, NEGATIVE, POSITIVE, RULE, panel, table

__all__ = ["heat", "raw_embeddings", "train"]

WIDTH = 16


def train(loss: Loss, epochs: int) -> nn.Module:
    """A small net whose raw embeddings of two views go to this loss."""
    net = encoder(lambda width: MLPHead(width, 128, WIDTH, batch_norm=True))

    def loss_of(step: int, epoch: int, both: tuple[Tensor, Tensor], index: Tensor) -> Tensor:
        first, second = (net(view) for view in both)
        result: Tensor = loss(negative_free_pairs(first, second, index)).loss
        return result

    # VICReg's weights make large gradients: both losses are scaled to a common order, which moves no minimum.
    fit(net, lambda *step: loss_of(*step) / 10, epochs)
    return net


@torch.no_grad()
def raw_embeddings(net: nn.Module) -> tuple[Tensor, Tensor]:
    pixels, _ = images()
    index = torch.arange(len(pixels))
    net.eval()
    first, second = (net(view) for view in views()(pixels, index, epoch=1000, seed=0))
    return first, second


def heat(values: Tensor, title: str, note: str, top: float, legend: str | None) -> alt.LayerChart:
    size = len(values)
    place = torch.arange(size)
    scale = alt.Scale(domain=[-top, 0, top], range=[NEGATIVE, CARD, POSITIVE], interpolate="lab", clamp=True)
    bar = alt.Legend(title=legend, orient="bottom", titleOrient="left", gradientLength=130, tickCount=3)
    rows, columns = place.repeat_interleave(size), place.repeat(size)
    base = alt.Chart(table(row=rows.tolist(), column=columns.tolist(), value=values.flatten().clamp(-top, top)))
    axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False)
    cells = base.mark_rect().encode(
        x=alt.X("column:O", title="dimension", axis=axis, scale=alt.Scale(paddingInner=0)),
        y=alt.Y("row:O", title="dimension", axis=axis, scale=alt.Scale(paddingInner=0)),
        color=alt.Color("value:Q", scale=scale, legend=bar),
    )
    framed = panel(cells, title=title, note=note, width=224, height=224)
    return framed.properties(view=alt.ViewBackground(stroke=RULE))
