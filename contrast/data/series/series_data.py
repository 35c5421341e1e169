"""Time series as the data of a run: two labelled or unlabelled sets and their views."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from contrast.arguments import checked
from contrast.data.batch import Batch
from contrast.data.series.indexed import IndexedSeries, TrainingSeries
from contrast.data.series.picture import drawn
from contrast.data.series.views import SeriesViews
from contrast.data.sources import MapStyle
from contrast.data.standardisation import Standardisation
from contrast.data.training_data import TrainingData

__all__ = ["SeriesData"]


class SeriesData(TrainingData):
    """Time series for pretraining and for evaluation, from any map-style dataset classes.

    Series are float32 (channel, step), standardised channel by channel, then turned into views on the device. Labels,
    if there are any, never reach a training batch.

    Args:
        train: what is pretrained on; items are series or (series, label).
        views: the augmentation, of standardised series.
        test: what evaluations report on; None where there is none.
        batch_size: samples a process and step, at least 2.
        workers: loader processes; no more are started than there are batches.
        seed: of the order and of every view; the run's seed if a configuration leaves it out.
        channels: of every series.
        length: steps to which every series is resampled on straight lines; None takes them as they are, of one length.
        mean, std: for standardising before the views, one number a channel or one for all; None takes those of the
            training set, which is read once for it (a channel that never changes is divided by 1).
        limit: pretrain on so many samples, chosen by the seed; None takes all.

    Raises:
        InputError: for a batch size of 1, a length or a limit out of range, or one of mean and std without the other;
            when training starts, for a batch larger than the data set, and series that differ in length or channels.
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
        """Of samples as loaders give them: less the offset that float32 would not hold; see `IndexedSeries`."""
        scale = self._own
        return Standardisation(tuple(m - offset for m, offset in zip(scale.mean, self._offset, strict=True)), scale.std)

    @cached_property
    def _own(self) -> Standardisation:
        """Of samples as the data set has them."""
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
        # Reads the training set, unless it is given: refuses a series that does not fit before any step is taken.
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
    """Mean and deviation of each channel over all series and steps, in float64.

    Source of the update: Chan, Golub and LeVeque, Algorithms for Computing the Sample Variance (The American
    Statistician 1983): sums of squares would cancel where a mean is far from 0.
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
