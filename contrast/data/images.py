"""Images as loaders want them: cropped for training where need be, centred for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from contrast.data.batch import Batch
from contrast.data.indexed import IndexedImages
from contrast.data.views import Views

__all__ = ["CentreImages", "TrainingImages", "centre"]


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Images by (epoch, position), without labels; cropped here where they differ in size.

    Args:
        images: what is trained on.
        views: the augmentation, whose crops are made here if `views_in` is "workers".
        views_in: "device" hands out whole images.
        seed: of the views.
    """

    def __init__(self, images: IndexedImages, views: Views, views_in: Literal["device", "workers"], seed: int) -> None:
        self._images = images
        self._views, self._views_in, self._seed = views, views_in, seed
        if views_in == "workers":  # are started anew for every epoch, and each would have to compile what it calls
            views.crop_sample(torch.zeros((1, 1, 1), dtype=torch.uint8), 0, epoch=0, seed=seed)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = place
        image, _, _ = self._images[index]
        if self._views_in == "workers":
            image = self._views.crop_sample(image, index, epoch, self._seed)
        return image, index

    def __getitems__(self, places: Sequence[tuple[int, int]]) -> Batch | list[tuple[Tensor, int]]:
        """What torch's loader asks for: a batch at once where that is possible, many times as fast, else samples."""
        index = [index for _, index in places]
        images = self._images.stacked(index) if self._views_in == "device" else None
        return [self[place] for place in places] if images is None else Batch(images, torch.tensor(index))


class CentreImages(Dataset[tuple[Tensor, int, int]]):
    """Labelled images at one size, as evaluations see them."""

    def __init__(self, images: IndexedImages, size: int) -> None:
        self._images, self._size = images, size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image, index, label = self._images[index]
        return centre(image, self._size), index, label


def centre(image: UInt8[Tensor, "c h w"], size: int) -> UInt8[Tensor, "c {size} {size}"]:
    """The middle of an image: shorter side to ``size · 256 / 224``, then a central crop; an image of the size as it is.

    The usual evaluation transform of ImageNet (He et al., CVPR 2016, arXiv 1512.03385, section 3.4, with its
    ratio of 256 to 224 at every size). An image whose shorter side is below `size` is only enlarged to it.
    """
    height, width = image.shape[-2:]
    if (height, width) == (size, size):
        return image
    shorter = round(size * 256 / 224) if min(height, width) > size else size
    resized = transforms.resize(image, [shorter], antialias=True)
    middle: Tensor = transforms.center_crop(resized, [size, size])
    return middle
