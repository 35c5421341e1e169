"""Data sets of any class, sample by sample: an image and a label, or one line that says what is wrong and where."""

from __future__ import annotations

import operator
import os
import struct
import zlib
from typing import Any, Protocol, runtime_checkable

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from contrast.data.decode import to_uint8
from contrast.errors import InputError

__all__ = ["UNLABELLED", "ImageSource", "map_style", "read_label", "read_sample"]

UNLABELLED = -1

# Of damaged or missing files. A ValueError or a KeyError is more likely a mistake in the data set's code, whose
# author wants the traceback.
_READING_ERRORS = (OSError, EOFError, SyntaxError, struct.error, zlib.error, Image.DecompressionBombError)

# Where data set classes keep the paths of their files: torchvision's, and ours.
_PATHS = ("paths", "samples", "_samples", "imgs", "_image_files", "_images")


@runtime_checkable
class ImageSource(Protocol):
    """What every map-style data set can do; items are images, or (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def map_style(source: Dataset[Any] | ImageSource) -> ImageSource:
    """The same data set, known to have a length and items.

    Raises:
        InputError: for an iterable data set, one without a length, and an empty one.
    """
    name = type(source).__name__
    if isinstance(source, IterableDataset) or not isinstance(source, ImageSource):
        raise InputError(f"{name} is no map-style data set: it needs __len__ and __getitem__(index)")
    if len(source) == 0:
        raise InputError(f"{name} holds no image: give one that does")
    return source


def read_sample(source: ImageSource, index: int, channels: int) -> tuple[UInt8[Tensor, "{channels} h w"], int]:
    """One image as uint8 and its label, -1 where it has none.

    Raises:
        InputError: naming the data set, the index and, where it is known, the file, for one that is damaged, an image
            of a form that `to_uint8` refuses, an item that is neither an image nor (image, label).
    """
    item = _item(source, index)
    try:
        image, label = _image_and_label(item)
        return to_uint8(image, channels), label
    except InputError as error:
        raise InputError(f"{_place(source, index)}: {error}") from error
    except _READING_ERRORS as error:  # a Pillow image may not have been read so far
        raise _unreadable(source, index, error) from error


def read_label(source: ImageSource, index: int) -> int:
    """The label alone, -1 where there is none; raises as `read_sample` does."""
    item = _item(source, index)
    try:
        return _image_and_label(item)[1]
    except InputError as error:
        raise InputError(f"{_place(source, index)}: {error}") from error


def _item(source: ImageSource, index: int) -> object:
    try:
        return source[index]
    except _READING_ERRORS as error:
        raise _unreadable(source, index, error) from error


def _image_and_label(item: object) -> tuple[object, int]:
    if not isinstance(item, tuple | list | dict):
        return item, UNLABELLED
    if isinstance(item, dict) or len(item) != 2:
        what = f"a dict of {', '.join(map(str, item))}" if isinstance(item, dict) else f"{len(item)} things"
        raise InputError(f"an item is {what}: give an image, or (image, label), by a data set class of your own")
    image, label = item
    if label is None:
        return image, UNLABELLED
    try:
        number = operator.index(label)
    except TypeError:
        raise InputError(f"the label {label!r:.60} is no integer: give the number of a class, or None") from None
    if number < UNLABELLED:
        raise InputError(f"the label {number} is negative: classes count from 0, -1 stands for none")
    return image, number


def _place(source: ImageSource, index: int) -> str:
    name, path = type(source).__name__, _path(source, index)
    return f"image {index} of {name}" + (f" ({path})" if path else "")


def _path(source: object, index: int) -> str | None:
    if isinstance(source, Subset):
        return _path(source.dataset, source.indices[index])
    for name in _PATHS:
        listed = getattr(source, name, None)
        entry = listed[index] if isinstance(listed, list) and index < len(listed) else None
        first = entry[0] if isinstance(entry, tuple) else entry
        if isinstance(first, str | os.PathLike):
            return os.fspath(first)
    return None


def _unreadable(source: ImageSource, index: int, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"{_place(source, index)} does not decode ({reason}): remove or mend the file; contrast.data.ImageFolder can "
        "leave such files out by on_corrupt: skip"
    )
