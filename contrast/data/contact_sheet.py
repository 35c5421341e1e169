"""Contact sheet: a picture of the views that a configuration makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from contrast.checks import check_at_least, checked
from contrast.data.image_data import thumbnail
from contrast.data.views.recipes import Views
from contrast.errors import InputError

__all__ = ["contact_sheet"]

_LEGIBLE = 96  # pixels; smaller views are enlarged to at least this size
_GAP = 4


@checked
def contact_sheet(
    images: Sequence[UInt8[Tensor, "_ _ _"]] | UInt8[Tensor, "b c h w"],
    views: Views,
    path: str | Path,
    epochs: int = 4,
    seed: int = 0,
) -> None:
    """Write a contact sheet of views as PNG: one row per image, with the image itself and its views in each epoch.

    Epochs are separated by a wider gap.

    Args:
        images: uint8, 1 or 3 channels each. They may differ in size. The position of an image is its sample index.
        views: the recipe.
        path: path of the PNG. Its folder must exist.
        epochs: number of epochs, from epoch 0.
        seed: seed of the run.

    Raises:
        InputError: if there is no image or no epoch.
    """
    check_at_least("epochs", epochs, 1)
    if len(images) == 0:
        raise InputError("a contact sheet of 0 images: give at least one")
    cell = views.size * max(1, math.ceil(_LEGIBLE / views.size))
    left = [_GAP]  # left edge of each column, in pixels
    for column in range(epochs * views.count):
        left.append(left[-1] + cell + (3 * _GAP if column % views.count == 0 else _GAP))
    sheet = Image.new("RGB", (left[-1] + cell + _GAP, _GAP + len(images) * (cell + _GAP)), "white")
    for row, image in enumerate(images):
        pictures = [image, *_views_of(image, row, views, epochs, seed)]
        for x, picture in zip(left, pictures, strict=True):
            sheet.paste(thumbnail(picture, cell), (x, _GAP + row * (cell + _GAP)))
    sheet.save(path, format="PNG")


def _views_of(
    image: UInt8[Tensor, "c h w"], index: int, views: Views, epochs: int, seed: int
) -> list[Float[Tensor, "c s s"]]:
    rows = torch.tensor([index])
    made = []
    for epoch in range(epochs):
        crops = views.crop_sample(image.cpu(), index, epoch, seed)[:, None].unbind()
        made += [view[0] for view in views.finish(crops, rows, epoch, seed)]
    return made
