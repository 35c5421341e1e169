"""Any data set as (sample, index, label): the one form in which the rest of the package sees its samples."""

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
from contrast.data.sources import Kind, Source, map_style, read_sample, stacked
from contrast.errors import InputError

__all__ = ["IndexedImages", "IndexedSamples", "labels_of"]


class IndexedSamples(Dataset[tuple[Tensor, int, int]], ABC):
    """Samples of a map-style data set as tensors, each with its index and its label (-1 where it has none).

    Args:
        source: any data set with a length whose items are samples or (sample, label).
        channels: of every sample.

    Attributes:
        kind: what the samples are, for messages.

    Raises:
        InputError: for a data set that is empty or not map-style; from an item, for one that cannot be read.
    """

    kind: ClassVar[Kind]

    @checked
    def __init__(self, source: Dataset[Any] | Source, channels: int) -> None:
        self.source = map_style(source, self.kind)
        self.channels = channels

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        sample, label = read_sample(self.source, index, self.kind, self.convert)
        return sample, index, label

    @abstractmethod
    def convert(self, sample: Any) -> Tensor:
        """A sample, as the data set has it, as a tensor."""

    @abstractmethod
    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedSamples:
        """Some of the samples, numbered anew from 0 in the order given."""

    def _some(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> Subset[Any]:
        # torch's Subset asks for no more than a length and items, though its annotation names its own base class.
        return Subset(cast("Dataset[Any]", self.source), torch.as_tensor(chosen).tolist())


class IndexedImages(IndexedSamples):
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

    kind = Kind("image", "; contrast.data.ImageFolder can leave such files out by on_corrupt: skip")

    @checked
    def __init__(self, source: Dataset[Any] | Source, channels: int) -> None:
        if channels not in (1, 3):
            raise InputError(f"channels {channels} is neither 1 (grey) nor 3 (RGB)")
        super().__init__(source, channels)

    def convert(self, sample: Any) -> UInt8[Tensor, "{self.channels} h w"]:
        """An image as uint8, of so many channels."""
        return to_uint8(sample, self.channels)

    def stacked(self, index: Sequence[int]) -> UInt8[Tensor, "b {self.channels} h w"] | None:
        """Images in one call, where the data set can hand them out so in these channels; else None."""
        images = stacked(self.source, index)
        return images if images is not None and images.shape[1] == self.channels else None

    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedImages:
        """Some of the images, numbered anew from 0 in the order given."""
        return IndexedImages(self._some(chosen), self.channels)
