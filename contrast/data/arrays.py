"""Image data sets from .npz and .npy files."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from contrast.checks import checked
from contrast.data.decode import BANDS, scale_to_uint8
from contrast.data.labels import named_labels
from contrast.data.sources import Content, array_rows
from contrast.errors import InputError, did_you_mean

__all__ = ["Array", "ArrayImages", "map_array", "read_arrays", "require_file"]

Array = npt.NDArray[Any]

_READING_ERRORS = (ValueError, EOFError, zipfile.BadZipFile, zlib.error)

_OBJECTS = (
    "it holds pickled objects, and pickles are never loaded: give series of unequal length as one array "
    "padded with NaN at their ends, or as a .ts file, texts by array.astype(str)"
)


def require_file(path: str) -> None:
    """Raise InputError for a pipe or a device, which may have no end. A missing file is left to the reader."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError(f"{path!r} is a pipe or a device: give a file")


def map_array(path: str, samples: str) -> Array:
    """Memory-map the array of an ``.npy`` file.

    Args:
        path: the file.
        samples: noun for its content in error messages, for example "images".

    Raises:
        InputError: for a missing or damaged file, and for a file with pickled objects.
    """
    require_file(path)
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise _unreadable(path, samples, error) from error
    except _READING_ERRORS as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path!r}: {_OBJECTS}") from error
        raise InputError(
            f"{path!r} is not a complete .npy file of numbers ({error}): write it with numpy.save"
        ) from error
    return array


def read_arrays(path: str, names: Sequence[str], samples: str) -> list[Array]:
    """Read named arrays from an ``.npz`` file.

    Args:
        path: the file. Pickled objects in it are never loaded.
        names: names of the arrays.
        samples: noun for their content in error messages, for example "images".

    Raises:
        InputError: for a missing or damaged file, and for a name that is not in it.
    """
    if not path.lower().endswith(".npz"):
        raise InputError(
            f"{path!r} is neither .npz nor .npy: write it with numpy.savez(path, {samples}=..., labels=...)"
        )
    require_file(path)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return [_named(archive, name, path) for name in names]
    except OSError as error:
        raise _unreadable(path, samples, error) from error
    except InputError:
        raise
    except _READING_ERRORS as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path!r}: {_OBJECTS}") from error
        raise InputError(
            f"{path!r} is not a complete .npz file of numbers ({error}): write it with numpy.savez"
        ) from error


def _named(archive: np.lib.npyio.NpzFile, name: str, path: str) -> Array:
    if name not in archive.files:
        none = "; without labels, set labels: null" if name == "labels" else ""
        setting = f"; name the array that holds them, as in {name}: {archive.files[0]}" if archive.files else ""
        raise InputError(f"{path!r} holds no array {name!r}{did_you_mean(name, archive.files)}{setting}{none}")
    array: Array = archive[name]
    return array


def _unreadable(path: str, samples: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path!r}: correct `path`, or put the {samples} there")
    return InputError(f"{path!r} cannot be read: {error.strerror}")


_CHANNELS = (1, 3)
_MOST_BANDS = 16  # an axis of at most this length is taken for the bands of an image


class ArrayImages(Dataset[tuple[Tensor, int | None]]):
    """Images from an ``.npz`` file with named arrays, or from a memory-mapped ``.npy`` file without labels.

    The array is (n, h, w), (n, h, w, c) or (n, c, h, w), with c of 1 (grey) or 3 (RGB). Its values are uint8, floats in
    [0, 1], or of another type that `scale_to_uint8` accepts. Arrays that are not uint8 are read once by the
    constructor, so that an invalid pixel is found before training.

    Args:
        path: the file. Pickled objects in it are never loaded.
        images: name of the array of images in an ``.npz``.
        labels: name of the array of labels in an ``.npz``: (n,) integers or texts. None if there are no labels.

    Attributes:
        labels: int64, (n,), or None.
        classes: class names in the order of their labels, if the labels are texts; else empty.
        stored_type: dtype and shape of the stored images, in words.

    Raises:
        InputError: for a missing or damaged file, a name that is not in it, and an array that cannot hold images or
            labels.
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
        """A batch of images in one call, for loaders."""
        pixels = scale_to_uint8(self._images[np.asarray(index)])
        return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these images, as stored in the file."""
        return Content("all bytes of the array", array_rows(self._images, index))

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map would copy the whole array. A worker that is not forked maps the file again instead.
        return self.__dict__ | ({"_images": None} if self._mapped else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._mapped:
            self._images = _channels_last(map_array(self.path, "images"), self.path)


def _channels_last(images: Array, path: str) -> Array:
    """View of the array as (n, h, w, c)."""
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
