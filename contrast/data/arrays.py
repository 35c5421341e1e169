"""Images from one numpy file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from contrast.arguments import checked
from contrast.data.array_file import Array, map_array, read_arrays
from contrast.data.decode import BANDS, scale_to_uint8
from contrast.data.labels import named_labels
from contrast.data.sources import Content, array_rows
from contrast.errors import InputError

__all__ = ["ArrayImages"]

_CHANNELS = (1, 3)
_MOST_BANDS = 16  # of a picture that is taken for one of several bands


class ArrayImages(Dataset[tuple[Tensor, int | None]]):
    """The images of an ``.npz`` with named arrays, or of an ``.npy``, which is memory-mapped and has no labels.

    Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with c of 1 (grey) or 3 (RGB), in uint8, floats in [0, 1], or
    another type that `scale_to_uint8` takes. What is not uint8 is read once now, so that no bad pixel turns up later.

    Args:
        path: the file. Pickled objects in it are never loaded.
        images: the name of the images in an ``.npz``.
        labels: the name of the labels, (n,) integers or texts, in an ``.npz``; None where there are none.

    Attributes:
        labels: int64, (n,), or None.
        classes: their names where they are texts, in the order of the labels; else empty.
        stored_type: type and shape of the stored images, in words.

    Raises:
        InputError: for a missing or damaged file, names that are not in it, and arrays that are no images or labels.
    """

    @checked
    def __init__(self, path: str | Path, images: str = "images", labels: str | None = "labels") -> None:
        self.path = str(Path(path).expanduser())
        self.labels: Tensor | None = None
        self.classes: list[str] = []
        self._mapped = self.path.lower().endswith(".npy")
        if self._mapped:
            self._images = map_array(self.path, "images")
        else:
            arrays = read_arrays(self.path, [images] if labels is None else [images, labels], "images")
            self._images = arrays[0]
            if labels is not None:
                self.labels, self.classes = named_labels(arrays[1], len(self._images), f"{self.path!r}, {labels!r}")
        self.stored_type = f"{self._images.dtype} array {self._images.shape}"
        self._images = _channels_last(self._images, self.path)
        _refuse_bad_pixels(self._images, self.path)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], int | None]:
        pixels = scale_to_uint8(self._images[index])
        image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        return image, None if self.labels is None else int(self.labels[index])

    def images_at(self, index: Sequence[int]) -> UInt8[Tensor, "b c h w"]:
        """These images in one call, for loaders."""
        pixels = scale_to_uint8(self._images[np.asarray(index)])
        return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these images as the file has them."""
        return Content("all bytes of the array", array_rows(self._images, index))

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map is the whole array: a worker that is not forked maps the file again instead.
        return self.__dict__ | ({"_images": None} if self._mapped else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._mapped:
            self._images = _channels_last(map_array(self.path, "images"), self.path)


def _channels_last(images: Array, path: str) -> Array:
    """The array as (n, h, w, c), a view of the one given."""
    if images.ndim == 3 and images.size:
        return images[:, :, :, None]
    if images.ndim != 4 or not images.size:
        if not images.size:
            raise InputError(f"{path!r} holds no images: its array of shape {images.shape} is empty; write it again")
        raise InputError(f"{path!r}: images of shape {images.shape}: give (n, h, w), (n, h, w, c) or (n, c, h, w)")
    first, last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
    if first == last:
        what = "channels could come first or last" if first else "neither axis 1 nor the last is 1 or 3 channels"
        bands = min(images.shape[1], images.shape[3])
        if not first and bands <= _MOST_BANDS:
            raise InputError(f"{path!r}: images of shape {images.shape}: {bands} channels: {BANDS}")
        raise InputError(f"{path!r}: images of shape {images.shape}, where {what}: give (n, h, w, c) or (n, c, h, w)")
    return images if last else images.transpose(0, 2, 3, 1)


def _refuse_bad_pixels(images: Array, path: str) -> None:
    if images.dtype == np.uint8:
        return
    for place, image in enumerate(images):
        try:
            scale_to_uint8(image)
        except InputError as error:
            raise InputError(f"{path!r}, image {place}: {error}") from error
