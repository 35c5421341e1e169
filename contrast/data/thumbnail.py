"""An image tensor as a small picture to look at."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

__all__ = ["thumbnail"]


def thumbnail(picture: Tensor, cell: int) -> Image.Image:
    """The picture as large as a square cell allows; enlarged by repeating pixels, so that they can be told apart.

    Args:
        picture: (1 or 3, h, w), uint8 or in [0, 1].
        cell: pixels of its longer side.
    """
    if picture.is_floating_point():
        picture = (picture * 255).round().to(torch.uint8)
    colour = picture.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous()
    height, width = colour.shape[:2]
    scale = cell / max(height, width)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    drawn = Image.fromarray(colour.numpy())
    return drawn.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
