"""Base class of data modules: training set, test set, loaders and views for any kind of sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Literal

import lightning
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from contrast.checks import checked
from contrast.data.batch import Batch, collate_labelled, collate_training
from contrast.data.identity import DataIdentity, identity_of, names_of, root_of
from contrast.data.indexed import IndexedSamples
from contrast.data.input_statistics import LOOKED_AT_IN_TEST, statistics_of
from contrast.data.labels import check_same_classes, class_names, labels_of
from contrast.data.loader import EpochBatches, ResumableLoader, WorkerLoader
from contrast.data.standardisation import Standardisation
from contrast.errors import InputError
from contrast.randomness import Purpose, permutation

__all__ = ["Split", "TrainingData"]

Split = Literal["train", "test"]
_MOST_WORKERS = 512


class TrainingData(lightning.LightningDataModule, ABC):
    """Base class of data modules: samples for pretraining and evaluation.

    A subclass defines what a sample is and how its views are made. Views are made on the device, in batches. Labels, if
    there are any, never reach a training batch.

    Args:
        train: the training set.
        test: the test set that evaluations report on; None if there is none.
        batch_size: samples per process and step, at least 2.
        workers: number of loader processes. No more are started than there are batches.
        seed: random seed of the sample order and of every view.
        limit: number of samples to pretrain on, chosen by the seed. None takes all.

    Attributes:
        train_set: the training set after `limit`.
        test_set: the test set, or None.
        samples_name: noun for several samples, for example "images".
        value_name: noun for one number of a sample, for example "pixel".

    Raises:
        InputError: if the batch size is below 2, the limit is out of range, or the number of workers is negative or
            above 512. When training starts: if a batch is larger than the data set.
    """

    samples_name: ClassVar[str]
    value_name: ClassVar[str]

    @checked
    def __init__(
        self,
        train: IndexedSamples,
        test: IndexedSamples | None,
        batch_size: int,
        workers: int,
        seed: int,
        limit: int | None,
    ) -> None:
        super().__init__()
        self.train_set = train if limit is None else train.subset(_choose(len(train), limit, seed))
        self.test_set = test
        self._names: dict[Split, list[str] | None] = {}
        self._contents: dict[Split, DataIdentity] = {}
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        if batch_size < 2:
            raise InputError(f"data.batch_size {batch_size} leaves no negatives: give at least 2")
        if workers < 0:
            raise InputError(f"data.workers {workers} is negative: give 0 to load in the main process")
        if workers > _MOST_WORKERS:  # more processes would exhaust the machine before the first batch
            raise InputError(f"data.workers {workers} is above {_MOST_WORKERS}: give about one per CPU core")

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample as the network receives it, channels first."""

    @property
    @abstractmethod
    def standardisation(self) -> Standardisation:
        """Standardisation that turns a sample into the network's input."""

    @abstractmethod
    def describe_input(self) -> dict[str, Any]:
        """Input format of an exported network, as JSON: size, channels, mean, std, and a description of the values."""

    @property
    @abstractmethod
    def extent(self) -> str:
        """Size of a sample, in words."""

    @property
    @abstractmethod
    def transform(self) -> str:
        """Preprocessing of a sample before a network evaluates it, in words."""

    @property
    @abstractmethod
    def recipe(self) -> str:
        """Name of the class that makes the views."""

    @abstractmethod
    def make_views(self, batch: Batch, epoch: int) -> Batch:
        """The batch with its samples replaced by standardised views.

        Args:
            batch: samples on the device.
            epoch: number of the epoch.
        """

    @abstractmethod
    def picture(self, sample: Tensor) -> Image.Image:
        """Picture of a sample of the training set, for reports."""

    def view_pictures(self, views: Tensor) -> list[Image.Image]:
        """Pictures of a batch of views, as `views_of` returns them."""
        return [self.picture(view) for view in self._undone(views)]

    @abstractmethod
    def _undone(self, views: Tensor) -> Tensor:
        """Views with the standardisation undone, or in another form that a picture can show."""

    @abstractmethod
    def _trained_on(self) -> Dataset[tuple[Tensor, int]]:
        """The training set, indexed by (epoch, position), without labels."""

    @abstractmethod
    def _evaluated(self, samples: Any) -> Dataset[tuple[Tensor, int, int]]:
        """Samples with index and label, in the form that evaluations use."""

    def views_of(self, index: Int[Tensor, " n"], epoch: int) -> Batch:
        """Views that training makes of given samples in a given epoch, on the CPU; for observers.

        Args:
            index: indices of the samples in the training set, (n,).
            epoch: number of the epoch.
        """
        samples = self._trained_on()
        return self.make_views(collate_training([samples[epoch, sample] for sample in index.tolist()]), epoch)

    @property
    def train_samples(self) -> int:
        """Number of training samples."""
        return len(self.train_set)

    @cached_property
    def train_statistics(self) -> dict[str, Any]:
        """Statistics of some training samples before any view is made; see `statistics_of`."""
        return statistics_of(self.train_set, self.seed)

    def input_statistics(self) -> dict[str, Any]:
        """Statistics of the training and test set, and their standardisation, for a run's ``input.json``.

        If the test set cannot be read, its entry has an ``error`` instead of statistics, because training does not need
        it. ``same_as_train`` says whether the test set is known to have the training set's contents, as far as that can
        be known without reading every sample.
        """
        test: dict[str, Any] | None = None
        if self.test_set is not None:
            try:
                test = statistics_of(self.test_set, self.seed, LOOKED_AT_IN_TEST)
                test["same_as_train"] = self._same_contents()
            except InputError as error:
                test = {"error": str(error)}
        scale = self.standardisation
        return {
            "samples_name": self.samples_name,
            "standardisation": {"mean": list(scale.mean), "std": list(scale.std)},
            "train": self.train_statistics,
            "test": test,
        }

    def _same_contents(self) -> bool:
        """Whether the test set is known to have the same samples as the training set."""
        if self.test_set is None or len(self.test_set) != self.train_samples:
            return False
        test = identity_of(self.test_set, thorough=False)
        same = test.contents == self.identity.contents and test.contents_of == self.identity.contents_of
        return same and test.contents is not None

    def measured(self) -> dict[str, list[float]]:
        """``mean`` and ``std`` that were measured because none were given; empty if they were given."""
        return {}

    @cached_property
    def train_labels(self) -> Int[Tensor, " n"] | None:
        """Labels of the training samples, int64, for observers; None if there are none."""
        return labels_of(self.train_set.source)

    @cached_property
    def class_names(self) -> list[str]:
        """Class names of the training set in the order of their labels; empty if the data set has none."""
        return class_names(self.train_set.source)

    def class_name(self, label: int | None) -> str | None:
        """Name of the class with this label; None for no label, or for a label without a name."""
        known = label is not None and 0 <= label < len(self.class_names)
        return self.class_names[label] if known and label is not None else None

    def sample_names(self, split: Split) -> list[str] | None:
        """File name of each sample in one set, relative to the data set's folder; None if samples are not files."""
        if split not in self._names:
            self._names[split] = names_of(self._set(split).source)
        return self._names[split]

    @cached_property
    def identity(self) -> DataIdentity:
        """Fingerprint that a checkpoint stores to recognise this training set; the same on every machine."""
        return identity_of(self.train_set, thorough=False)

    @cached_property
    def test_labels(self) -> Int[Tensor, " n"] | None:
        """Labels of the test set, int64; None if there are none."""
        return None if self.test_set is None else labels_of(self.test_set.source)

    @property
    def classes(self) -> int:
        """Number of classes among the labels of the training set.

        Raises:
            InputError: if the training set has no labels.
        """
        if self.train_labels is None:
            raise InputError("the train set has no labels to evaluate with: give --data FILE.yaml with a labelled set")
        return len(self.class_numbers)

    @cached_property
    def class_numbers(self) -> Int[Tensor, " classes"]:
        """Distinct labels of the training set in increasing order, without -1; empty if it has none."""
        labels = self.train_labels
        return torch.empty(0, dtype=torch.int64) if labels is None else torch.unique(labels[labels >= 0])

    def consecutive(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Map labels to consecutive class indices from 0 to `classes` - 1, in the order of `class_numbers`.

        With consecutive indices, the size of an array never depends on the largest label.

        Args:
            labels: labels of the training or the test set; -1 stays -1.

        Raises:
            InputError: for a label that the training set does not have.
        """
        numbers = self.class_numbers.to(labels.device)
        place = torch.searchsorted(numbers, labels).clamp(max=max(0, len(numbers) - 1))
        unknown = (labels >= 0) & (numbers[place] != labels) if len(numbers) else labels >= 0
        if bool(unknown.any()):
            raise InputError(
                f"the train set has no sample of class {int(labels[unknown][0])}: give labels of its classes"
            )
        return torch.where(labels >= 0, place, labels)

    def describe(self, split: Split) -> dict[str, Any]:
        """Description of an evaluation's data, as JSON: class, path, samples, class names, checksums and transform."""
        samples = self._set(split)
        names = class_names(samples.source)
        return {**self.key(split), "path": root_of(samples.source), **({"classes": names} if names else {})}

    def key(self, split: Split) -> dict[str, Any]:
        """Cache key of an encoder's features, as JSON: everything that they depend on except the encoder.

        The checksum of the contents is computed once for each set of this object.
        """
        samples = self._set(split)
        if split not in self._contents:
            self._contents[split] = identity_of(samples, thorough=True)
        found = self._contents[split]
        source: object = samples.source
        while isinstance(source, Subset):
            source = source.dataset
        return {
            "set": f"{type(source).__module__}.{type(source).__qualname__}",
            "split": split,
            "samples": len(samples),
            "names": found.names,
            "labels": found.labels,
            "contents": found.contents,
            "contents_of": found.contents_of,
            "transform": self.transform,
        }

    def _enough(self, world: int) -> str:
        """Advice for an error message: the setting that makes a whole batch possible."""
        most = self.train_samples // world
        if most >= 2:
            return f"give at most {most}"
        needed = self.batch_size * world
        return f"raise data.limit to {needed} or more, or give a data set of this size"

    def setup(self, stage: str) -> None:
        """Check the data at the start of training or of an evaluation; called by Lightning.

        Raises:
            InputError: if a batch is larger than the training set, or training and test set use different classes.
        """
        _, world = self._processes()
        if stage == "fit" and self.batch_size * world > self.train_samples:
            raise InputError(
                f"data.batch_size {self.batch_size} on {world} process(es) is larger than the {self.train_samples} "
                f"training samples, so that no whole batch exists: {self._enough(world)}"
            )
        if self.test_set is not None:
            check_same_classes(self.train_set.source, self.test_set.source)

    @property
    def batches_per_epoch(self) -> int:
        """Number of whole batches per process and epoch."""
        return self.train_samples // (self.batch_size * self._processes()[1])

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def train_dataloader(self) -> ResumableLoader:
        """Resumable loader of training batches; called by Lightning."""
        rank, world = self._processes()
        return ResumableLoader(
            self._trained_on(),
            batch_sampler=EpochBatches(self.train_samples, self.batch_size, self.seed, rank, world),
            num_workers=min(self.workers, self.batches_per_epoch),  # any further worker would have nothing to do
            collate_fn=collate_training,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
        )

    def evaluation_loader(
        self, split: Split, limit: int | None = None, only: Int[Tensor, " m"] | None = None
    ) -> DataLoader[Any]:
        """Loader of labelled samples (`LabelledBatch`) from one set, in the set's order and all of one shape.

        Args:
            split: "train" for the set after `limit`, or "test".
            limit: largest number of samples, chosen by the seed; None takes all.
            only: positions of the samples to load, (m,); None takes all. A batch's index then counts within `only`.

        Raises:
            InputError: if there is no test set.
        """
        if split == "test" and self.test_set is None:
            raise InputError("the data have no test set: give data.test to evaluate on")
        samples = self._set(split)
        if only is not None:
            samples = samples.subset(only)
        if limit is not None and limit < len(samples):
            samples = samples.subset(_choose(len(samples), limit, self.seed))
        batch_size = max(256, self.batch_size)
        return WorkerLoader(
            self._evaluated(samples),
            batch_size=batch_size,
            num_workers=min(self.workers, -(-len(samples) // batch_size)),
            collate_fn=collate_labelled,
        )

    def _set(self, split: Split) -> IndexedSamples:
        return self.train_set if split == "train" or self.test_set is None else self.test_set

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the views of a training batch after it reached the device; return any other batch unchanged."""
        if not isinstance(batch, Batch):
            return batch
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return self.make_views(batch, epoch)


def _choose(samples: int, limit: int, seed: int) -> Tensor:
    if not 1 <= limit <= samples:
        raise InputError(f"data.limit {limit} is not between 1 and the {samples} training samples")
    return permutation(samples, seed, Purpose.SPLIT)[:limit].sort().values
