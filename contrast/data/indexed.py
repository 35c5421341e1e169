"""Any data set of images as (image, index, label): the one form in which the rest of the package sees images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Subset

from contrast.data.labels import labels_of
from contrast.data.sources import ImageSource, map_style, read_sample
from contrast.errors import InputError

__all__ = ["IndexedImages", "labels_of"]


class IndexedImages(Dataset[tuple[Tensor, int, int]]):
    """Images of a map-style data set as uint8 tensors, each with its index and its label (-1 where it has none).

    Args:
        source: any data set with a length whose items are images or (image, label); see `to_uint8` for images.
        channels: 1 or 3, what every image is converted to.

    Raises:
        InputError: for a data set that is empty or not map-style; from an item, for one that cannot be read.

    Example:
        >>> images = IndexedImages([(torch.ones(2, 2), 5)], channels=1)
        >>> image, index, label = images[0]
        >>> image.tolist(), index, label
        ([[[255, 255], [255, 255]]], 0, 5)
    """

    def __init__(self, source: Dataset[Any] | ImageSource, channels: int) -> None:
        if channels not in (1, 3):
            raise InputError(f"channels {channels} is neither 1 (grey) nor 3 (RGB)")
        self.source = map_style(source)
        self.channels = channels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "{self.channels} h w"], int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")
        image, label = read_sample(self.source, index, self.channels)
        return image, index, label

    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedImages:
        """Some of the images, numbered anew from 0 in the order given."""
        places = torch.as_tensor(chosen).tolist()
        # torch's Subset asks for no more than a length and items, though its annotation names its own base class.
        return IndexedImages(Subset(cast("Dataset[Any]", self.source), places), self.channels)
