"""Read time series from .npz, .npy and .ts files."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.utils.data import Dataset

from contrast.checks import checked
from contrast.data.arrays import Array, map_array, read_arrays, require_file
from contrast.data.labels import named_labels
from contrast.data.sources import Content
from contrast.errors import InputError, did_you_mean

__all__ = [
    "LOOKED_AT",
    "AeonSet",
    "ArraySeries",
    "TsFile",
    "at_positions",
    "offset_of",
    "resample",
    "series_content",
    "to_series",
]

_ROUNDED = 1e-3
"""Largest rounding error of float32, as a share of a channel's deviation; above it a series stays float64."""
LOOKED_AT = 64
"""Number of training series from which an offset is computed."""


def to_series(values: Any) -> Float[Tensor, "c t"]:
    """Convert numbers, (channel, step) or (step,) of one channel, to a float32 series (channel, step).

    A series with a large offset, for example a latitude that changes by 1e-6, stays float64: float32 would round its
    changes away before the series is standardised.

    Args:
        values: a numpy array or a tensor of integers or floats.

    Returns:
        (channel, step), float32 or float64.

    Raises:
        InputError: for any other type or shape, for a series without steps, and for NaN or infinity, naming the
            channel.

    Example:
        >>> to_series(np.array([1, 2, 3])).tolist()
        [[1.0, 2.0, 3.0]]
    """
    array = values.numpy(force=True) if isinstance(values, Tensor) else values
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        what = f"{array.dtype}" if isinstance(array, np.ndarray) else type(values).__name__
        raise InputError(f"a series of type {what}: give a numpy array or a tensor of numbers, (channel, step)")
    if array.ndim not in (1, 2) or not array.size:
        raise InputError(f"a series of shape {array.shape}: give (channel, step), or (step,) of one channel")
    with np.errstate(over="ignore"):  # overflow becomes infinity, which raises below
        series = torch.from_numpy(np.atleast_2d(array).astype(np.float32))
    exact = torch.from_numpy(np.atleast_2d(array).astype(np.float64))
    bad = ~torch.isfinite(series)
    if bool(bad.any()):
        channel, step = bad.nonzero()[0].tolist()
        raise InputError(
            f"channel {channel} is {float(series[channel, step])} at step {step}: fill missing values, "
            "or remove the series"
        )
    lost = (series.double() - exact).abs().amax(1) > _ROUNDED * exact.std(1, correction=0)
    return exact if bool(lost.any()) else series


def offset_of(series: Sequence[Float[Tensor, "c _"]]) -> Float64[Tensor, " c"]:
    """Offset to subtract in float64 before series become float32: 0, or the mean of series that float32 would round.

    Args:
        series: the first series of a training set, as `to_series` returns them.

    Returns:
        One number per channel, (c,) float64.
    """
    if all(each.dtype == torch.float32 for each in series):
        return torch.zeros(len(series[0]), dtype=torch.float64)
    return torch.stack([each.double().mean(1) for each in series]).mean(0)


def series_content(series: Sequence[Tensor], index: Sequence[int]) -> Content:
    """All bytes of the given series, each after its shape, for a checksum of their content."""
    chosen = (series[place] for place in index)
    parts = (part for each in chosen for part in (f"{tuple(each.shape)}\n".encode(), each.contiguous().numpy()))
    return Content("all bytes of the series", parts)


def resample(series: Float[Tensor, "c t"], steps: int) -> Float[Tensor, "c {steps}"]:
    """Resample a series to `steps` evenly spaced positions from its first to its last step, by linear interpolation.

    Args:
        series: (c, t).
        steps: number of positions.

    Returns:
        (c, steps).

    Example:
        >>> resample(torch.tensor([[0.0, 2.0]]), 3).tolist()
        [[0.0, 1.0, 2.0]]
    """
    places = torch.linspace(0, series.shape[1] - 1, steps, dtype=torch.float64)
    return at_positions(series[None], places[None])[0]


def at_positions(series: Float[Tensor, "b c t"], positions: Float[Tensor, "b steps"]) -> Float[Tensor, "b c steps"]:
    """Values of each series at its own positions, by linear interpolation.

    Args:
        series: (b, c, t).
        positions: (b, steps), in units of steps, from 0 to t − 1.
    """
    last = series.shape[2] - 1
    before = positions.floor().clamp(0, last)
    share = (positions - before)[:, None].to(series.dtype)
    first = before.long()[:, None].expand(-1, series.shape[1], -1)
    left, right = series.gather(2, first), series.gather(2, (first + 1).clamp_max(last))
    return left + share * (right - left)


class ArraySeries(Dataset[tuple[Tensor, int | None]]):
    """Time series from an ``.npz`` file with named arrays, or from an ``.npy`` file without labels; held in memory.

    The array is (sample, channel, step), or (sample, step) for one channel, of integers or floats. Series of unequal
    length are padded with NaN at their ends. Steps at the end of a series in which every channel is NaN are cut off
    (see `SeriesData`'s ``length``).

    Args:
        path: the file. Pickled objects in it are never loaded.
        series: name of the array of series in an ``.npz``.
        labels: name of the array of labels in an ``.npz``: (sample,) integers or texts. None if there are no labels.

    Attributes:
        labels: int64, (n,), or None.
        classes: class names in the order of their labels, if the labels are texts; else empty.

    Raises:
        InputError: for a missing or damaged file, a name that is not in it, an array that cannot hold series or labels,
            and a missing number (NaN), naming sample and channel.
    """

    @checked
    def __init__(self, path: str | Path, series: str = "series", labels: str | None = "labels") -> None:
        self.path = str(Path(path).expanduser())
        self.labels: Tensor | None = None
        self.classes: list[str] = []
        if self.path.lower().endswith(".npy"):
            array, *rest = [map_array(self.path, "series")]
        else:
            array, *rest = read_arrays(self.path, [series] if labels is None else [series, labels], "series")
        if array.ndim not in (2, 3) or not array.size:
            raise InputError(
                f"{self.path!r}: series of shape {array.shape}: give (sample, channel, step), or (sample, step)"
            )
        if rest:
            self.labels, self.classes = named_labels(rest[0], len(array), f"{self.path!r}, {labels!r}")
        self._series: list[Tensor] = []
        for place, each in enumerate(array):
            try:
                self._series.append(to_series(_without_padding(each)))
            except InputError as error:
                raise InputError(f"{self.path!r}, series {place}: {error}") from error

    def __len__(self) -> int:
        return len(self._series)

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these series."""
        return series_content(self._series, index)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c t"], int | None]:
        return self._series[index], None if self.labels is None else int(self.labels[index])


def _without_padding(series: Array) -> Array:
    """Cut off the steps at the end of a series in which every channel is NaN."""
    if series.dtype.kind != "f":
        return series
    there = ~np.isnan(series).all(axis=0) if series.ndim == 2 else ~np.isnan(series)
    if not there.any():
        raise InputError("it holds only NaN: remove the series")
    last = int(np.flatnonzero(there)[-1])
    return series[..., : last + 1]


class TsFile(Dataset[tuple[Tensor, int | None]]):
    """Time series from a ``.ts`` file, held in memory; they may differ in length (see `SeriesData`'s ``length``).

    The file is in UTF-8, with or without a byte order mark, or in Latin-1. It has a header of ``@`` lines, then one
    line per series: the channels separated by colons, each with its values separated by commas, and the class at the
    end. Classes are numbered in natural order ("2" before "10"), not in the order of the header, so that two files with
    the same classes agree. The target of a regression is ignored.

    Args:
        path: the file.

    Attributes:
        labels: int64, (n,), or None if the file names no classes.
        classes: class names in the order of their labels.

    Raises:
        InputError: for a missing file, for one with timestamps, and, naming file and line, for a line that does not
            match the header or a missing number (``?`` or NaN), with series and channel.

    Source: Bagnall et al., The UEA multivariate time series classification archive, 2018, arXiv 1811.00075.
    """

    @checked
    def __init__(self, path: str | Path) -> None:
        self.path = str(Path(path).expanduser())
        lines = _lines(self.path)
        header = _header(lines, self.path)
        self.classes = sorted(header.get("classlabel", [])[1:], key=_natural)
        ends_in_target = bool(self.classes) or header.get("targetlabel", ["false"])[0].lower() == "true"
        self._series: list[Tensor] = []
        numbers = []
        for number, line in lines:
            *channels, target = line.split(":") if ends_in_target else [*line.split(":"), ""]
            try:
                self._series.append(_series(channels))
                if self.classes:
                    numbers.append(_class_number(target.strip(), self.classes))
            except InputError as error:
                raise InputError(f"{self.path!r}, line {number}, series {len(self._series)}: {error}") from error
        if not self._series:
            raise InputError(f"{self.path!r} holds no series: give a .ts file with lines after @data")
        self.labels: Int64[Tensor, " n"] | None = torch.tensor(numbers) if self.classes else None

    def __len__(self) -> int:
        return len(self._series)

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these series."""
        return series_content(self._series, index)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c t"], int | None]:
        return self._series[index], None if self.labels is None else int(self.labels[index])


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is neither empty nor a comment."""
    require_file(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path!r}: correct `path`, or put the series there") from error
    except OSError as error:
        raise InputError(f"{path!r} cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise InputError(f"{path!r} is not text of 8-bit characters: give a .ts file in UTF-8")
    try:
        text = data.decode("utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _header(lines: Iterator[tuple[int, str]], path: str) -> dict[str, list[str]]:
    """The words after each ``@name``, down to ``@data``."""
    header: dict[str, list[str]] = {}
    for number, line in lines:
        if not line.startswith("@"):
            raise InputError(f"{path!r}, line {number}: {line:.40} comes before @data: give a .ts file")
        name, *words = line[1:].split()
        if name.lower() == "data":
            break
        header[name.lower()] = words
    else:
        raise InputError(f"{path!r} has no line @data: give a .ts file")
    if header.get("timestamps", ["false"])[0].lower() == "true":
        raise InputError(f"{path!r} has timestamps: give values at even steps, with @timeStamps false")
    if header.get("classlabel", ["true"])[0].lower() != "true":
        del header["classlabel"]
    return header


def _series(channels: list[str]) -> Tensor:
    rows = []
    for place, channel in enumerate(channels):
        words = ["nan" if word.strip() == "?" else word for word in channel.split(",")]
        if len(words) > 1 and not words[-1].strip():  # a comma after the last value
            words.pop()
        try:
            rows.append(np.array(words, dtype=np.float64))
        except ValueError:
            raise InputError(f"channel {place} is not a list of numbers: {channel:.40}") from None
    if not rows:
        raise InputError("it has no channel: separate channels and the class by colons")
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise InputError(f"its channels have {lengths[0]} to {lengths[-1]} steps: give all channels the same number")
    return to_series(np.stack(rows))


def _class_number(name: str, classes: list[str]) -> int:
    if name not in classes:
        raise InputError(f"the class {name:.40} is not among those of @classLabel: {', '.join(classes)}")
    return classes.index(name)


def _natural(name: str) -> tuple[tuple[float, str], ...]:
    parts = re.findall(r"\d+\.?\d*|\D+", name)
    return tuple((float(part), "") if part[0].isdigit() else (float("inf"), part) for part in parts)


class AeonSet(Dataset[tuple[Tensor, int | None]]):
    """UCR and UEA time series data sets, read from the ``.ts`` files in aeon's package.

    aeon is installed by ``contrast[series]``. Only its files are used; the package is not imported. Train and test are
    the archives' own split.

    Args:
        name: name of the data set, for example "JapaneseVowels_eq" (270 and 370 series of 12 channels and 25 steps,
            9 speakers) or "BasicMotions" (40 and 40 series of 6 channels and 100 steps, 4 motions).
        split: "train" or "test".

    Attributes:
        labels: int64, (n,).
        classes: class names in the order of their labels.

    Raises:
        InputError: if aeon is not installed, or its package has no such data set.

    Source: Kudo, Toyama and Shimbo, Multidimensional curve classification using passing-through regions (Pattern
    Recognition Letters 1999), for the vowels; Bagnall et al., arXiv 1811.00075, for the archive.
    """

    @checked
    def __init__(self, name: str, split: Literal["train", "test"] = "train") -> None:
        folder = _folder()
        sets = {path.name.removesuffix("_TRAIN.ts"): path.parent for path in folder.glob("*/*_TRAIN.ts")}
        if name not in sets:
            raise InputError(f"no set {name!r} in aeon's package{did_you_mean(name, sets)}")
        file = TsFile(sets[name] / f"{name}_{split.upper()}.ts")
        self._file, self.labels, self.classes = file, file.labels, file.classes

    def __len__(self) -> int:
        return len(self._file)

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these series."""
        return self._file.content(index, times)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c t"], int | None]:
        return self._file[index]


def _folder() -> Path:
    found = importlib.util.find_spec("aeon")  # does not import a top-level package
    if found is None or not found.submodule_search_locations:
        raise InputError("AeonSet reads the files of aeon, which is not installed: pip install 'contrast[series]'")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data"
