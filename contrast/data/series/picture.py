"""A time series as a small drawing."""

from __future__ import annotations

import colorsys

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

__all__ = ["drawn"]

_SIZE, _MARGIN, _SCALE = (144, 96), 4, 3  # drawn larger and scaled down, for smooth lines
_PAPER, _ZERO = (255, 255, 255), (225, 227, 230)
_SHADES = 64
_MOST = 12  # channels that are drawn


def drawn(series: Float[Tensor, "c t"]) -> Image.Image:
    """One line a channel over a common scale, the first twelve channels.

    Args:
        series: channels and steps; a number that is not finite leaves a gap.
    """
    width, height = (_SCALE * side for side in _SIZE)
    picture = Image.new("RGB", (width, height), _PAPER)
    draw, margin = ImageDraw.Draw(picture), _SCALE * _MARGIN
    shown = series[:_MOST].float()
    finite = shown[shown.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    span = high - low or 1.0
    across = torch.linspace(margin, width - margin, max(2, shown.shape[1])).tolist()

    def up(value: float) -> float:
        return height - margin - (value - low) / span * (height - 2 * margin) if high > low else height / 2

    if low < 0 < high:
        draw.line([(margin, up(0.0)), (width - margin, up(0.0))], fill=_ZERO, width=_SCALE)
    for channel, values in enumerate(shown.tolist()):
        points = [(x, up(value)) for x, value in zip(across, values, strict=False) if value - value == 0]
        if len(points) > 1:
            draw.line(points, fill=_colour(channel, len(shown)), width=_SCALE + 1, joint="curve")
    # With few colours a file is a third of the size; a page of pairs holds a hundred.
    return picture.resize(_SIZE, Image.Resampling.LANCZOS).quantize(_SHADES)


def _colour(channel: int, channels: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(0.58 + channel / max(1, channels), 0.42, 0.65)
    return round(255 * red), round(255 * green), round(255 * blue)
