"""Indexed samples: any data set as (sample, index, label), the form that the rest of the package uses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Subset

from contrast.checks import checked
from contrast.data.decode import to_uint8
from contrast.data.labels import labels_of
from contrast.data.sources import SampleKind, Source, map_style, read_sample, stacked
from contrast.errors import InputError

__all__ = ["IndexedImages", "IndexedSamples", "labels_of"]


class IndexedSamples(Dataset[tuple[Tensor, int, int]], ABC):
    """Samples of a map-style data set as tensors, each with its index and its label (-1 if it has none).

    Args:
        source: any data set with a length whose items are samples or (sample, label).
        channels: number of channels of every sample.

    Attributes:
        kind: kind of the samples, for error messages.

    Raises:
        InputError: if the data set is empty or not map-style. When an item is read: if the item cannot be read.
    """

    kind: ClassVar[SampleKind]

    @checked
    def __init__(self, source: Dataset[Any] | Source, channels: int) -> None:
        self.source = map_style(source, self.kind)
        self.channels = channels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        sample, label = read_sample(self.source, index, self.kind, self.convert)
        return sample, index, label

    @abstractmethod
    def convert(self, sample: Any) -> Tensor:
        """Convert a raw sample of the data set to a tensor."""

    @abstractmethod
    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedSamples:
        """A subset of the samples, renumbered from 0 in the given order."""

    def _some(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> Subset[Any]:
        # torch's Subset is annotated with its own Dataset class, but needs only a length and items.
        return Subset(cast("Dataset[Any]", self.source), torch.as_tensor(chosen).tolist())


class IndexedImages(IndexedSamples):
    """Images of a map-style data set as uint8 tensors, each with its index and its label (-1 if it has none).

    Args:
        source: any data set with a length whose items are images or (image, label); see `to_uint8` for images.
        channels: 1 or 3; every image is converted.

    Raises:
        InputError: if the data set is empty or not map-style. When an item is read: if the item cannot be read.

    Example:
        >>> images = IndexedImages([(torch.ones(2, 2), 5)], channels=1)
        >>> image, index, label = images[0]
        >>> image.tolist(), index, label
        ([[[255, 255], [255, 255]]], 0, 5)
    """

    kind = SampleKind("image", "; contrast.data.ImageFolder can leave such files out by on_corrupt: skip")

    @checked
    def __init__(self, source: Dataset[Any] | Source, channels: int) -> None:
        if channels not in (1, 3):
            raise InputError(f"channels {channels} is neither 1 (grey) nor 3 (RGB)")
        super().__init__(source, channels)

    def convert(self, sample: Any) -> UInt8[Tensor, "{self.channels} h w"]:
        """Convert an image to uint8 with `channels` channels."""
        return to_uint8(sample, self.channels)

    def stacked(self, index: Sequence[int]) -> UInt8[Tensor, "b {self.channels} h w"] | None:
        """A batch of images in one call, if the data set supports it for these channels; else None."""
        images = stacked(self.source, index)
        return images if images is not None and images.shape[1] == self.channels else None

    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedImages:
        """A subset of the images, renumbered from 0 in the given order."""
        return IndexedImages(self._some(chosen), self.channels)
