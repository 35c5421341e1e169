"""Pairs of images side by side, with what is said of each pair below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from contrast.data.thumbnail import thumbnail

__all__ = ["Shown", "pairs_sheet"]

_SIDE, _GAP, _MARGIN, _LINE = 96, 4, 14, 15
_INK, _FAINT, _WARM = (32, 33, 36), (110, 114, 120), (176, 60, 0)
_PAPER, _FRAME = (255, 255, 255), (238, 238, 238)

Shown = tuple[UInt8[Tensor, "c h w"], UInt8[Tensor, "c h w"], str, str, bool]
"""Two images, a line, a fainter line, and whether the latter is to catch the eye."""


def pairs_sheet(path: Path, pairs: Sequence[Shown], title: str, columns: int = 5) -> Path:
    """Draw pairs row by row and save them as one picture.

    Args:
        path: of the picture, PNG by its ending.
        pairs: what is shown.
        title: above them.
        columns: pairs side by side.
    """
    width = 2 * _SIDE + _GAP
    height = _SIDE + 2 * _LINE + 6
    across, down = min(columns, max(1, len(pairs))), -(-len(pairs) // columns)
    size = (_MARGIN + across * (width + _MARGIN), 44 + down * (height + _MARGIN))
    sheet = Image.new("RGB", (max(size[0], 420), size[1]), _PAPER)
    draw, plain, large = ImageDraw.Draw(sheet), ImageFont.load_default(12), ImageFont.load_default(16)
    draw.text((_MARGIN, 12), title, fill=_INK, font=large)
    for place, (one, other, line, below, warm) in enumerate(pairs):
        left = _MARGIN + (place % columns) * (width + _MARGIN)
        top = 44 + (place // columns) * (height + _MARGIN)
        for column, image in enumerate((one, other)):
            sheet.paste(_framed(image), (left + column * (_SIDE + _GAP), top))
        draw.text((left, top + _SIDE + 4), line, fill=_INK, font=plain)
        draw.text((left, top + _SIDE + 4 + _LINE), below, fill=_WARM if warm else _FAINT, font=plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _framed(image: Tensor) -> Image.Image:
    picture = thumbnail(image, _SIDE)
    framed = Image.new("RGB", (_SIDE, _SIDE), _FRAME)
    framed.paste(picture, ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2))
    return framed
