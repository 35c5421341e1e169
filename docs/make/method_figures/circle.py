"""Rows of width two on the unit circle: points, arrows and names, with equal units on both axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import torch
from torch import Tensor

from docs.make.method_figures.drawing import MUTED, RULE, Layer, said, table

__all__ = ["arrows", "at", "axes", "circle", "dots", "named", "segments"]


def at(*degrees: float) -> Tensor:
    """Unit rows at these angles."""
    angle = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def axes(reach: float, shift: tuple[float, float] = (0.0, 0.0)) -> dict[str, alt.X | alt.Y]:
    """Hidden axes of equal units; the panel is to be a square."""
    spans = [alt.Scale(domain=[middle - reach, middle + reach], nice=False) for middle in shift]
    return {"x": alt.X("x:Q", scale=spans[0], axis=None), "y": alt.Y("y:Q", scale=spans[1], axis=None)}


def circle(reach: float, shift: tuple[float, float] = (0.0, 0.0)) -> Layer:
    ring = at(*range(0, 361, 3))
    line = alt.Chart(table(x=ring[:, 0], y=ring[:, 1], order=list(range(len(ring)))))
    return line.mark_line(color=RULE, strokeWidth=1.5).encode(**axes(reach, shift), order="order:Q")


def dots(rows: Tensor, color: str, size: float = 90, shape: str = "circle", filled: bool = True) -> Layer:
    chart = alt.Chart(table(x=rows[:, 0], y=rows[:, 1]))
    mark = chart.mark_point(color=color, size=size, shape=shape, filled=filled, opacity=1, strokeWidth=1.8)
    return mark.encode(x="x:Q", y="y:Q")


def segments(start: Tensor, end: Tensor, color: str, dash: Sequence[float] = (1, 0), width: float = 1.2) -> Layer:
    ends = table(x=start[:, 0], y=start[:, 1], x2=end[:, 0], y2=end[:, 1])
    mark = alt.Chart(ends).mark_rule(color=color, strokeWidth=width, strokeDash=list(dash))
    return mark.encode(x="x:Q", y="y:Q", x2="x2:Q", y2="y2:Q")


def arrows(start: Tensor, end: Tensor, color: str, dash: Sequence[float] = (1, 0), size: float = 70) -> Layer:
    """Segments with a head at their end, which stops a little short of it."""
    along = end - start
    unit = along / along.norm(dim=1, keepdim=True)
    tip = end - 0.05 * unit
    turned = torch.atan2(along[:, 0], along[:, 1]) * 180 / math.pi % 360  # clockwise from up, as the mark's angle
    heads = alt.Chart(table(x=tip[:, 0], y=tip[:, 1], angle=turned))
    mark = heads.mark_point(shape="triangle", filled=True, color=color, size=size, opacity=1)
    angle = alt.Angle("angle:Q", scale=alt.Scale(domain=[0, 360], range=[0, 360]))
    return alt.layer(segments(start, tip, color, dash, 1.8), mark.encode(x="x:Q", y="y:Q", angle=angle))


def named(row: Tensor, text: str, color: str = MUTED, away: float = 16) -> Layer:
    """A name beside a row, on the side that points away from the middle."""
    x, y = row.tolist()
    length = math.hypot(x, y) or 1.0
    align = "left" if x > 0.35 * length else "right" if x < -0.35 * length else "center"
    return said(x, y, text, color, dx=away * x / length, dy=-away * y / length, align=align)
