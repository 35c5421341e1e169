"""Data module for time series: pretraining and evaluation on any data set of series."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Float32, Float64, Int
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.data.indexed import IndexedSamples
from contrast.data.series.files import LOOKED_AT, offset_of, resample, to_series
from contrast.data.series.views import SeriesViews
from contrast.data.sources import MapStyle, SampleKind, Source, read_sample
from contrast.data.standardisation import Standardisation
from contrast.data.training_data import TrainingData
from contrast.errors import InputError

__all__ = ["IndexedSeries", "SeriesData", "TrainingSeries", "drawn"]

_SIZE, _MARGIN, _SCALE = (144, 96), 4, 3  # drawn 3 times as large and scaled down, for smooth lines
_PAPER, _ZERO = (255, 255, 255), (225, 227, 230)
_SHADES = 64
_MOST = 12  # largest number of channels in a picture


def drawn(series: Float[Tensor, "c t"]) -> Image.Image:
    """Line plot of a time series, one line per channel on a common scale; only the first twelve channels.

    Args:
        series: (channel, step). A number that is not finite is left out of the line.
    """
    width, height = (_SCALE * side for side in _SIZE)
    picture = Image.new("RGB", (width, height), _PAPER)
    draw, margin = ImageDraw.Draw(picture), _SCALE * _MARGIN
    shown = series[:_MOST].float()
    finite = shown[shown.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    span = high - low or 1.0
    across = torch.linspace(margin, width - margin, max(2, shown.shape[1])).tolist()

    def up(value: float) -> float:
        return height - margin - (value - low) / span * (height - 2 * margin) if high > low else height / 2

    if low < 0 < high:
        draw.line([(margin, up(0.0)), (width - margin, up(0.0))], fill=_ZERO, width=_SCALE)
    for channel, values in enumerate(shown.tolist()):
        points = [(x, up(value)) for x, value in zip(across, values, strict=False) if value - value == 0]
        if len(points) > 1:
            draw.line(points, fill=_colour(channel, len(shown)), width=_SCALE + 1, joint="curve")
    # Few colours make a file a third of the size; a page of pairs holds a hundred pictures.
    return picture.resize(_SIZE, Image.Resampling.LANCZOS).quantize(_SHADES)


def _colour(channel: int, channels: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hls_to_rgb(0.58 + channel / max(1, channels), 0.42, 0.65)
    return round(255 * red), round(255 * green), round(255 * blue)


class IndexedSeries(IndexedSamples):
    """Time series of a map-style data set as float32 (channel, step), each with its index and label (-1 if none).

    Args:
        source: any data set with a length whose items are series or (series, label); see `to_series`.
        channels: number of channels of every series.
        steps: length of every series. None takes the length of the first series.
        resampled: whether series of another length are resampled to `steps` by linear interpolation. If not, they raise
            an error.
        offset: number to subtract from each channel in float64, (channels,). None computes it from the first series of
            the data set (see `offset_of`). It is 0 unless float32 would round the changes of the series away.

    Raises:
        InputError: if the data set is empty or not map-style. When an item is read: if it has another number of
            channels or another length, or contains NaN or infinity.

    Example:
        >>> import numpy as np
        >>> series, index, label = IndexedSeries([(np.array([[1.0, 3.0]]), 5)], channels=1, steps=3, resampled=True)[0]
        >>> series.tolist(), index, label
        ([[1.0, 2.0, 3.0]], 0, 5)
    """

    kind = SampleKind("series")

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
            with suppress(InputError):  # the error is raised again when the series is used
                series = read_sample(self.source, place, self.kind, to_series)[0]
                if len(series) == self.channels:
                    first.append(series)
        return offset_of(first) if first else torch.zeros(self.channels, dtype=torch.float64)

    def convert(self, sample: Any) -> Float32[Tensor, "{self.channels} {self.steps}"]:
        """Convert a series to float32 with `channels` channels and `steps` steps, and subtract the offset."""
        series = self._fitting(to_series(sample))
        return (series.double() - self.offset[:, None]).float() if bool(self.offset.any()) else series.float()

    def _fitting(self, series: Float[Tensor, "c t"]) -> Float[Tensor, "{self.channels} {self.steps}"]:
        channels, steps = series.shape
        if channels != self.channels:
            raise InputError(
                f"it has {channels} channels and {steps} steps, read as (channel, step), and data.channels is "
                f"{self.channels}: set it to {channels}, or transpose the series if it is (step, channel)"
            )
        if steps == self.steps:
            return series
        if not self.resampled:
            raise InputError(
                f"it has {steps} steps and series 0 of the training set {self.steps}: set data.length "
                "to resample all series to one length"
            )
        return resample(series, self.steps)

    def subset(self, chosen: Int[Tensor, " m"] | Sequence[int]) -> IndexedSeries:
        """A subset of the series, renumbered from 0 in the given order."""
        return IndexedSeries(self._some(chosen), self.channels, self.steps, self.resampled, self.offset)


class TrainingSeries(Dataset[tuple[Tensor, int]]):
    """Training series, indexed by (epoch, position), without labels."""

    def __init__(self, series: IndexedSeries) -> None:
        self._series = series

    def __len__(self) -> int:
        return len(self._series)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        return self._series[place[1]][0], place[1]


class SeriesData(TrainingData):
    """Data module for time series: pretraining and evaluation on any map-style data sets.

    Series are float32 (channel, step). On the device they are standardised per channel and then turned into views.
    Labels, if there are any, never reach a training batch.

    Args:
        train: the training set. Its items are series or (series, label).
        views: the augmentation of standardised series.
        test: the test set that evaluations report on; None if there is none.
        batch_size: samples per process and step, at least 2.
        workers: number of loader processes. No more are started than there are batches.
        seed: random seed of the sample order and of every view. A configuration that leaves it out uses the run's seed.
        channels: number of channels of every series.
        length: number of steps to which every series is resampled by linear interpolation. None keeps the series as
            they are; they must then have one length.
        mean: mean to standardise the series before the views: one number per channel, or one for all. None reads the
            whole training set once to compute mean and std.
        std: standard deviation, in the same form. A computed 0 (a constant channel) is replaced by 1.
        limit: number of samples to pretrain on, chosen by the seed. None takes all.

    Raises:
        InputError: if the batch size is below 2, the length or the limit is out of range, or only one of mean and std
            is given. When training starts: if a batch is larger than the data set, or series differ in length or
            channels.
    """

    samples_name, value_name = "series", "value"

    @checked
    def __init__(
        self,
        train: Dataset | MapStyle,  # type: ignore[type-arg]  # annotated Dataset[Any], jsonargparse takes no class's arguments
        views: SeriesViews,
        test: Dataset | MapStyle | None = None,  # type: ignore[type-arg]  # as above
        batch_size: int = 256,
        workers: int = 0,
        seed: int = 0,
        channels: int = 1,
        length: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        limit: int | None = None,
    ) -> None:
        series = IndexedSeries(train, channels, length, resampled=length is not None)
        held_out = (
            None if test is None else IndexedSeries(test, channels, series.steps, series.resampled, series.offset)
        )
        super().__init__(series, held_out, batch_size, workers, seed, limit)
        self.views, self.channels, self.steps = views, channels, series.steps
        self._given = Standardisation.of_configuration(mean, std, channels)
        self._offset = series.offset.tolist()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.channels, self.steps)

    @cached_property
    def standardisation(self) -> Standardisation:
        """Standardisation of samples as the loaders return them: after `IndexedSeries` has subtracted its offset."""
        scale = self._own
        return Standardisation(tuple(m - offset for m, offset in zip(scale.mean, self._offset, strict=True)), scale.std)

    @cached_property
    def _own(self) -> Standardisation:
        """Standardisation of samples as the data set holds them, before any offset is subtracted."""
        if self._given is not None:
            return self._given
        scale = _of_set(self.train_set)
        return Standardisation(tuple(m + offset for m, offset in zip(scale.mean, self._offset, strict=True)), scale.std)

    def measured(self) -> dict[str, list[float]]:
        return {} if self._given is not None else {"mean": list(self._own.mean), "std": list(self._own.std)}

    @property
    def extent(self) -> str:
        return f"{self.channels} channel{'s' * (self.channels > 1)} and {self.steps} steps"

    @property
    def transform(self) -> str:
        scale = self._own
        how = "resampled on straight lines to " if self._resampled else ""
        return f"{how}{self.steps} steps; {self.channels} channels; mean {scale.mean}, std {scale.std}"

    @property
    def recipe(self) -> str:
        return type(self.views).__name__

    def describe_input(self) -> dict[str, Any]:
        return {
            "length": self.steps,
            "channels": self.channels,
            "mean": list(self._own.mean),
            "std": list(self._own.std),
            "values": f"as they are{', in float64' * any(self._offset)}, then standardised",
        }

    def setup(self, stage: str) -> None:
        super().setup(stage)
        # Without given mean and std this reads the training set: an invalid series then raises before the first step.
        _ = self.standardisation

    def picture(self, sample: Tensor) -> Image.Image:
        return drawn(sample)

    def _undone(self, views: Tensor) -> Tensor:
        return views

    def make_views(self, batch: Batch, epoch: int) -> Batch:
        """The batch with its series replaced by views of the standardised series."""
        assert isinstance(batch.inputs, Tensor)
        with torch.no_grad():
            views = self.views(self.standardisation(batch.inputs), batch.index, epoch, self.seed)
            return Batch(views, batch.index)

    @property
    def _resampled(self) -> bool:
        assert isinstance(self.train_set, IndexedSeries)
        return self.train_set.resampled

    def _trained_on(self) -> TrainingSeries:
        assert isinstance(self.train_set, IndexedSeries)
        return TrainingSeries(self.train_set)

    def _evaluated(self, samples: Any) -> IndexedSeries:
        assert isinstance(samples, IndexedSeries)
        return samples


def _of_set(samples: Any) -> Standardisation:
    """Mean and standard deviation of each channel over all series and steps, in float64.

    The moments are updated series by series: a sum of squares would lose precision by cancellation if a mean is far
    from 0.

    Source: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance (The American Statistician 1983), for
    the update.
    """
    count, mean, squares = 0, torch.zeros(samples.channels).double(), torch.zeros(samples.channels).double()
    for place in tqdm(range(len(samples)), "reading every series once", delay=2, leave=False):
        series = samples[place][0].double()
        steps, delta = series.shape[1], series.mean(dim=1) - mean
        squares += series.var(dim=1, correction=0) * steps + delta**2 * (count * steps / (count + steps))
        mean += delta * (steps / (count + steps))
        count += steps
    std = (squares / count).sqrt()
    return Standardisation(tuple(mean.tolist()), tuple(torch.where(std > 0, std, 1).tolist()))
