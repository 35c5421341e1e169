"""Map-style data sets of any class: samples, labels, contents, and one-line errors for damaged samples."""

from __future__ import annotations

import hashlib
import operator
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from contrast.errors import InputError, counted

__all__ = [
    "PATHS",
    "UNLABELLED",
    "Content",
    "HasContent",
    "MapStyle",
    "SampleKind",
    "Source",
    "StackedImages",
    "array_rows",
    "construction_error",
    "dead_worker",
    "file_state",
    "file_states",
    "map_style",
    "read_label",
    "read_sample",
    "stacked",
    "worker_message",
]


def worker_message(error: InputError) -> str:
    """One-line message of an InputError, also of an InputError from a DataLoader's worker process.

    torch raises a worker's error again in the main process, with the worker's whole traceback as its message. The last
    line of that traceback that names the exception contains the original message.

    Example:
        >>> worker_message(InputError("a.png is empty"))
        'a.png is empty'
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    prefix = f"{type(error).__module__}.{type(error).__qualname__}: "
    found = [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]
    return found[-1] if found else text


def dead_worker(error: BaseException) -> str:
    """Error message for a DataLoader worker that died, with the likely cause; empty for any other error.

    Example:
        >>> dead_worker(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
        'a loader worker was killed (process 7), most likely as memory ran out: give fewer data.workers'
        >>> dead_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        ''
    """
    seen: BaseException | None = error
    while seen is not None and "DataLoader worker (pid" not in str(seen):
        seen = seen.__cause__ or seen.__context__
    if not isinstance(seen, RuntimeError):
        return ""
    text = str(seen)
    which = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", text)
    who = f"a loader worker was killed (process {which[1] if which else 'unknown'})"
    if "bus error" in text.lower():
        return f"{who}, most likely as /dev/shm is full: enlarge it, or give data.workers 0"
    if "Segmentation" in text:
        return f"{who} by a fault in a library that it used: give data.workers 0 to see where"
    return f"{who}, most likely as memory ran out: give fewer data.workers"


def construction_error(class_path: str, arguments: dict[str, Any], error: Exception) -> InputError:
    """One-line error for a data set class whose constructor failed, with the name of the class and its arguments.

    torchvision raises RuntimeError if files are missing or their checksums differ, with advice on the Python argument
    `download`. It raises FileNotFoundError for an image folder, and ValueError for an unknown split.

    Example:
        >>> missing = RuntimeError("Dataset not found or corrupted. You can use download=True to download it")
        >>> print(construction_error("torchvision.datasets.CIFAR10", {"root": "data"}, missing))
        torchvision.datasets.CIFAR10: files missing or damaged in 'data': correct root, or set download: true
    """
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    if isinstance(error, RuntimeError) and "download=True" in str(error):
        root = f" in {str(arguments['root'])!r}" if "root" in arguments else ""
        return InputError(f"{class_path}: files missing or damaged{root}: correct root, or set download: true")
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{class_path}({given}): {reason}")


UNLABELLED = -1

# Errors of damaged or missing files. A ValueError or a KeyError is more likely a mistake in the data set's code; its
# author needs the traceback.
_READING_ERRORS = (OSError, EOFError, SyntaxError, struct.error, zlib.error, Image.DecompressionBombError)

# Attributes in which torchvision's and our data set classes keep the paths of their files.
PATHS = ("paths", "samples", "_samples", "imgs", "_image_files", "_images")


@dataclass(frozen=True)
class SampleKind:
    """Name of the samples of a data set in error messages, with advice for a sample that cannot be read.

    Args:
        name: noun for one sample, for example "image".
        hint: further advice if a file cannot be read.
    """

    name: str
    hint: str = ""


_ANY = SampleKind("sample")


@runtime_checkable
class Source(Protocol):
    """Protocol of a map-style data set: a length and items that are samples or (sample, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class MapStyle(Protocol):
    """Protocol that a configuration requires of a data set class; type annotations of its methods do not matter."""

    def __len__(self) -> Any: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@runtime_checkable
class StackedImages(Protocol):
    """Protocol of a data set that holds its images as arrays and can return many of them in one call."""

    def images_at(self, index: Sequence[int], /) -> UInt8[Tensor, "b c h w"] | None:
        """A batch of images as `to_uint8` makes them, in their own number of channels; None if that is not possible."""

        ...


class Content(NamedTuple):
    """Bytes that represent samples in a checksum.

    Attributes:
        words: description of the bytes, for example "all bytes of the array".
        parts: the bytes, in the order of the samples.
    """

    words: str
    parts: Iterable[bytes | npt.NDArray[Any]]


@runtime_checkable
class HasContent(Protocol):
    """Protocol of a data set that can represent its samples' content without making each sample."""

    def content(self, index: Sequence[int], times: bool, /) -> Content:
        """Content that changes whenever one of these samples changes, or its label if `labels` does not list it.

        Args:
            index: indices of the samples.
            times: whether to include the modification times of files. Without them, a changed file of equal size is not
                detected.
        """
        ...


def array_rows(array: npt.NDArray[Any], index: Sequence[int]) -> Iterator[bytes | npt.NDArray[Any]]:
    """All bytes of these rows of an array, after its dtype and shape; about 16 MiB at a time."""
    yield f"{array.dtype} {array.shape[1:]}\n".encode()
    size = max(1, array[:1].nbytes)
    at_once = max(1, (1 << 24) // size)
    for start in range(0, len(index), at_once):
        here = np.asarray(index[start : start + at_once])
        following = len(here) == 1 or bool((np.diff(here) == 1).all())
        yield np.ascontiguousarray(array[here[0] : here[-1] + 1] if following else array[here])


def file_states(paths: Sequence[str], times: bool, full: bool = False) -> Content:
    """Sizes of files, with their modification times or all their bytes, for a checksum; file names are not included.

    Args:
        paths: paths of the files.
        times: whether to include modification times.
        full: whether to use all bytes of the files instead of size and time.
    """
    words = "all bytes of the files" if full else f"sizes{' and modification times' * times} of the files"
    return Content(words, (file_state(path, times, full) for path in paths))


def file_state(path: str, times: bool, full: bool) -> bytes:
    """State of one file, for `file_states`."""
    try:
        if full and os.path.isfile(path):  # open only regular files: a pipe may have no end
            return hashlib.sha256(Path(path).read_bytes()).digest()
        state = os.stat(path)
    except OSError:  # a broken link raises later, when the sample is read
        return b"none\n"
    return f"{state.st_size} {state.st_mtime_ns if times else ''}\n".encode()


def stacked(source: Source, index: Sequence[int]) -> UInt8[Tensor, "b c h w"] | None:
    """A batch of images in one call, if the data set supports it; else None."""
    while isinstance(source, Subset):
        index, source = [source.indices[place] for place in index], cast("Source", source.dataset)
    return source.images_at(index) if isinstance(source, StackedImages) else None


def map_style(source: Dataset[Any] | Source, kind: SampleKind = _ANY) -> Source:
    """Check that a data set is map-style (it has a length and items) and not empty.

    Args:
        source: the data set.
        kind: kind of its samples, for error messages.

    Returns:
        The same data set.

    Raises:
        InputError: for an iterable data set, a data set without a length, or an empty one.
    """
    name = type(source).__name__
    if isinstance(source, IterableDataset) or not isinstance(source, Source):
        raise InputError(f"{name} is not a map-style data set: it needs __len__ and __getitem__(index)")
    if len(source) == 0:
        raise InputError(f"{name} holds no {kind.name}: give a data set with at least one")
    return source


def read_sample(
    source: Source, index: int, kind: SampleKind, convert: Callable[[object], Tensor]
) -> tuple[Tensor, int]:
    """Read one sample, converted by `convert`, and its label, -1 if it has none.

    Args:
        source: the data set.
        index: position of the sample.
        kind: kind of the samples, for error messages.
        convert: function from a raw sample to a tensor.

    Raises:
        InputError: for a damaged file, a sample that `convert` rejects, or an item that is neither a sample nor
            (sample, label). The message names the data set, the index and, if known, the file.
    """
    item = _item(source, index, kind)
    try:
        sample, label = _sample_and_label(item)
        return convert(sample), label
    except InputError as error:
        raise InputError(f"{_place(source, index, kind)}: {error}") from error
    except _READING_ERRORS as error:  # Pillow may read an image only when it is converted
        raise _unreadable(source, index, kind, error) from error


def read_label(source: Source, index: int) -> int:
    """Read only the label of a sample, -1 if it has none; raises as `read_sample` does."""
    item = _item(source, index, _ANY)
    try:
        return _sample_and_label(item)[1]
    except InputError as error:
        raise InputError(f"{_place(source, index, _ANY)}: {error}") from error


def _item(source: Source, index: int, kind: SampleKind) -> object:
    try:
        return source[index]
    except _READING_ERRORS as error:
        raise _unreadable(source, index, kind, error) from error


def _sample_and_label(item: object) -> tuple[object, int]:
    if not isinstance(item, tuple | list | dict):
        return item, UNLABELLED
    if isinstance(item, dict) or len(item) != 2:
        what = f"a dict of {', '.join(map(str, item))}" if isinstance(item, dict) else counted(len(item), "value")
        raise InputError(f"an item is {what}: write a data set class whose items are a sample, or (sample, label)")
    sample, label = item
    if label is None:
        return sample, UNLABELLED
    try:
        number = operator.index(label)
    except TypeError:
        raise InputError(f"the label {label!r:.60} is not an integer: give a class number, or None") from None
    if number < UNLABELLED:
        raise InputError(f"the label {number} is negative: classes are numbered from 0, and -1 means no label")
    return sample, number


def _place(source: Source, index: int, kind: SampleKind) -> str:
    name, path = type(source).__name__, _path(source, index)
    return f"{kind.name} {index} of {name}" + (f" ({path})" if path else "")


def _path(source: object, index: int) -> str | None:
    if isinstance(source, Subset):
        return _path(source.dataset, source.indices[index])
    for name in PATHS:
        listed = getattr(source, name, None)
        entry = listed[index] if isinstance(listed, list) and index < len(listed) else None
        first = entry[0] if isinstance(entry, tuple) else entry
        if isinstance(first, str | os.PathLike):
            return os.fspath(first)
    return None


def _unreadable(source: Source, index: int, kind: SampleKind, error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{_place(source, index, kind)} does not decode ({reason}): remove or fix the file{kind.hint}")
