"""Series of any data set as (series, index, label), all of one length; and as training wants them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor
from torch.utils.data import Dataset

from contrast.arguments import checked
from contrast.data.indexed import IndexedSamples
from contrast.data.series.values import LOOKED_AT, offset_of, resample, to_series
from contrast.data.sources import Kind, Source, read_sample
from contrast.errors import InputError

__all__ = ["IndexedSeries", "TrainingSeries"]


class IndexedSeries(IndexedSamples):
    """Series of a map-style data set as float32 (channel, step), each with its index and label (-1 where it has none).

    Args:
        source: any data set with a length whose items are series or (series, label); see `to_series`.
        channels: of every series.
        steps: the length of every series; None takes the first one's.
        resampled: whether series of another length are brought to it on straight lines, or refused.
        offset: subtracted from each channel in float64, (channels,); None takes that of the data set's first series
            (see `offset_of`): 0 unless float32 would round their changes away.

    Raises:
        InputError: for a data set that is empty or not map-style; from an item, for one that has other channels or
            another length, or a number that is missing.

    Example:
        >>> import numpy as np
        >>> series, index, label = IndexedSeries([(np.array([[1.0, 3.0]]), 5)], channels=1, steps=3, resampled=True)[0]
        >>> series.tolist(), index, label
        ([[1.0, 2.0, 3.0]], 0, 5)
    """

    kind = Kind("series")

    @checked
    def __init__(
        self,
        source: Dataset[Any] | Source,
        channels: int,
        steps: int | None = None,
        resampled: bool = False,
        offset: Float64[Tensor, " c"] | None = None,
    ) -> None:
        super().__init__(source, channels)
        self.resampled = resampled
        self.steps = read_sample(self.source, 0, self.kind, to_series)[0].shape[1] if steps is None else steps
        if self.steps < 1:
            raise InputError(f"data.length {steps}: give at least 1")
        self.offset = self._first_offset() if offset is None else offset

    def _first_offset(self) -> Float64[Tensor, " c"]:
        first = []
        for place in range(min(len(self.source), LOOKED_AT)):
            with suppress(InputError):  # it is said where the series is used
                series = read_sample(self.source, place, self.kind, to_series)[0]
                if len(series) == self.channels:
                    first.append(series)
        return offset_of(first) if first else torch.zeros(self.channels, dtype=torch.float64)

    def convert(self, sample: Any) -> Float32[Tensor, "{self.channels} {self.steps}"]:
        """A series as float32 of so many channels and steps, its offset subtracted."""
        series = self._fitting(to_series(sample))
        return (series.double() - self.offset[:, None]).float() if bool(self.offset.any()) else series.float()

    def _fitting(self, series: Float[Tensor, "c t"]) -> Float[Tensor, "{self.channels} {self.steps}"]:
        channels, steps = series.shape
        if channels != self.channels:
            raise InputError(
                f"it has {channels} channels and {steps} steps, read as (channel, step), and data.channels is "
                f"{self.channels}: set it to {channels}, or give (channel, step) if this one is (step, channel)"
            )
        if steps == self.steps:
            return series
        if not self.resampled:
            raise InputError(
                f"it has {steps} steps and series 0 of the training set {self.steps}: set data.length, to which all "
                "are then resampled"
            )
        return resample(series, self.steps)

    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedSeries:
        """Some of the series, numbered anew from 0 in the order given."""
        return IndexedSeries(self._some(chosen), self.channels, self.steps, self.resampled, self.offset)


class TrainingSeries(Dataset[tuple[Tensor, int]]):
    """Series by (epoch, position), without labels."""

    def __init__(self, series: IndexedSeries) -> None:
        self._series = series

    def __len__(self) -> int:
        return len(self._series)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        return self._series[place[1]][0], place[1]
