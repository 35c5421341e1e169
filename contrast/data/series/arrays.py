"""Series from one numpy file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from contrast.arguments import checked
from contrast.data.array_file import Array, map_array, read_arrays
from contrast.data.labels import named_labels
from contrast.data.series.values import series_content, to_series
from contrast.data.sources import Content
from contrast.errors import InputError

__all__ = ["ArraySeries"]


class ArraySeries(Dataset[tuple[Tensor, int | None]]):
    """The series of an ``.npz`` with named arrays, or of an ``.npy``, which has no labels; held in memory.

    Series are (sample, channel, step), or (sample, step) of one channel, integers or floats. Series of unequal length
    are padded with NaN at their ends: steps at the end of a series of which every channel is NaN are cut off (see
    `SeriesData`'s ``length``).

    Args:
        path: the file. Pickled objects in it are never loaded.
        series: the name of the series in an ``.npz``.
        labels: the name of the labels, (sample,) integers or texts, in an ``.npz``; None where there are none.

    Attributes:
        labels: int64, (n,), or None.
        classes: their names where they are texts, in the order of the labels; else empty.

    Raises:
        InputError: for a missing or damaged file, names that are not in it, arrays that are no series or labels, and
            a number that is missing (NaN), naming sample and channel.
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
    """A series without the steps at its end of which every channel is NaN."""
    if series.dtype.kind != "f":
        return series
    there = ~np.isnan(series).all(axis=0) if series.ndim == 2 else ~np.isnan(series)
    if not there.any():
        raise InputError("it holds nothing but NaN: leave the series out")
    last = int(np.flatnonzero(there)[-1])
    return series[..., : last + 1]
