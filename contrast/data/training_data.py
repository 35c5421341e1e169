"""The data of a run: what a training set, a test set and the loaders over them are, whatever a sample is."""

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
    """Samples for pretraining and for evaluation; a subclass says what a sample is and how its views are made.

    Views are made on the device, in batches. Labels, if there are any, never reach a training batch.

    Args:
        train: what is pretrained on.
        test: what evaluations report on; None where there is none.
        batch_size: samples a process and step, at least 2.
        workers: loader processes; no more are started than there are batches.
        seed: of the order and of every view.
        limit: pretrain on so many samples, chosen by the seed; None takes all.

    Attributes:
        train_set: what is pretrained on, after `limit`.
        test_set: what evaluations report on, or None.
        samples_name: what several samples are called, say "images".
        value_name: what one number of a sample is called, say "pixel".

    Raises:
        InputError: for a batch size of 1 or a limit out of range; when training starts, for a batch larger than the
            data set.
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
        if workers > _MOST_WORKERS:  # as many processes would take the machine down before the first batch
            raise InputError(f"data.workers {workers} is above {_MOST_WORKERS}: give about one a CPU core")

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a sample as the network takes it, channels first."""

    @property
    @abstractmethod
    def standardisation(self) -> Standardisation:
        """What makes the network's input of a sample."""

    @abstractmethod
    def describe_input(self) -> dict[str, Any]:
        """What an exported network is given, as JSON: size, channels, mean and std, and what its values are."""

    @property
    @abstractmethod
    def extent(self) -> str:
        """How large a sample is, in words."""

    @property
    @abstractmethod
    def transform(self) -> str:
        """What is done to a sample before a network evaluates it, in words."""

    @property
    @abstractmethod
    def recipe(self) -> str:
        """Name of the class that makes the views."""

    @abstractmethod
    def make_views(self, batch: Batch, epoch: int) -> Batch:
        """The batch with its samples replaced by standardised views."""

    @abstractmethod
    def picture(self, sample: Tensor) -> Image.Image:
        """A sample of the training set to look at."""

    def view_pictures(self, views: Tensor) -> list[Image.Image]:
        """Views of a batch, as `views_of` makes them, to look at."""
        return [self.picture(view) for view in self._undone(views)]

    @abstractmethod
    def _undone(self, views: Tensor) -> Tensor:
        """Views before they were standardised, or as a picture is to show them."""

    @abstractmethod
    def _trained_on(self) -> Dataset[tuple[Tensor, int]]:
        """The training set by (epoch, position), without labels."""

    @abstractmethod
    def _evaluated(self, samples: Any) -> Dataset[tuple[Tensor, int, int]]:
        """Samples with index and label, as evaluations see them."""

    def views_of(self, index: Int[Tensor, " n"], epoch: int) -> Batch:
        """The views that training makes of these samples in this epoch, on the CPU; for observers."""
        samples = self._trained_on()
        return self.make_views(collate_training([samples[epoch, sample] for sample in index.tolist()]), epoch)

    @property
    def train_samples(self) -> int:
        """How many samples are pretrained on."""
        return len(self.train_set)

    @cached_property
    def train_statistics(self) -> dict[str, Any]:
        """Statistics of some training samples before any view is made; see `statistics_of`."""
        return statistics_of(self.train_set, self.seed)

    def input_statistics(self) -> dict[str, Any]:
        """What a run keeps as ``input.json``: statistics of train and test set, and how samples are standardised.

        A test set that cannot be read has a line ``error`` in place of statistics: training does not need it. Its
        ``same_as_train`` says whether it has the training set's contents, as far as that is known without reading every
        sample.
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
        """Whether the test set is known to have the training set's samples."""
        if self.test_set is None or len(self.test_set) != self.train_samples:
            return False
        test = identity_of(self.test_set, thorough=False)
        same = test.contents == self.identity.contents and test.contents_of == self.identity.contents_of
        return same and test.contents is not None

    def measured(self) -> dict[str, list[float]]:
        """The ``mean`` and ``std`` that were measured because none were given; empty where they were given."""
        return {}

    @cached_property
    def train_labels(self) -> Int[Tensor, " n"] | None:
        """Labels of the samples that are pretrained on, for observers; None where there are none."""
        return labels_of(self.train_set.source)

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the train set's classes in the order of their labels; empty where it names none."""
        return class_names(self.train_set.source)

    def class_name(self, label: int | None) -> str | None:
        """The name of one class; None where there is no label, or none of that name."""
        known = label is not None and 0 <= label < len(self.class_names)
        return self.class_names[label] if known and label is not None else None

    def sample_names(self, split: Split) -> list[str] | None:
        """Each sample's file in one set, relative to its folder; None where samples are not files."""
        if split not in self._names:
            self._names[split] = names_of(self._set(split).source)
        return self._names[split]

    @cached_property
    def identity(self) -> DataIdentity:
        """What tells this train set from another, as a checkpoint keeps it: the same on every machine."""
        return identity_of(self.train_set, thorough=False)

    @cached_property
    def test_labels(self) -> Int[Tensor, " n"] | None:
        """Labels of the test set; None where there are none."""
        return None if self.test_set is None else labels_of(self.test_set.source)

    @property
    def classes(self) -> int:
        """How many classes the labels of the train set name.

        Raises:
            InputError: where the train set has no labels.
        """
        if self.train_labels is None:
            raise InputError("the train set has no labels to evaluate with: give --data FILE.yaml with a labelled set")
        return len(self.class_numbers)

    @cached_property
    def class_numbers(self) -> Int[Tensor, " classes"]:
        """The labels that the train set names, rising, without -1; empty where it has none."""
        labels = self.train_labels
        return torch.empty(0, dtype=torch.int64) if labels is None else torch.unique(labels[labels >= 0])

    def consecutive(self, labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Labels as places among `class_numbers`, 0 to `classes` - 1, so that nothing is sized by a label's number.

        Args:
            labels: of the train or the test set; -1 stays -1.

        Raises:
            InputError: for a label that the train set does not have.
        """
        numbers = self.class_numbers.to(labels.device)
        place = torch.searchsorted(numbers, labels).clamp(max=max(0, len(numbers) - 1))
        unknown = (labels >= 0) & (numbers[place] != labels) if len(numbers) else labels >= 0
        if bool(unknown.any()):
            raise InputError(f"the train set has no sample of class {int(labels[unknown][0])}, which was asked for")
        return torch.where(labels >= 0, place, labels)

    def describe(self, split: Split) -> dict[str, Any]:
        """The data of an evaluation, as JSON: class, path, samples, class names, checksums and transform."""
        samples = self._set(split)
        names = class_names(samples.source)
        return {**self.key(split), "path": root_of(samples.source), **({"classes": names} if names else {})}

    def key(self, split: Split) -> dict[str, Any]:
        """All that an encoder's features of one set depend on besides the encoder, as JSON: the key of a cache.

        The contents are computed once for each set of this object.
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
        """Which setting lets a batch be whole."""
        most = self.train_samples // world
        if most >= 2:
            return f"give at most {most}"
        needed = self.batch_size * world
        return f"raise data.limit to {needed} or more, or give data of as many samples"

    def setup(self, stage: str) -> None:
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
        """Whole batches that each process sees in an epoch."""
        return self.train_samples // (self.batch_size * self._processes()[1])

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def train_dataloader(self) -> ResumableLoader:
        rank, world = self._processes()
        return ResumableLoader(
            self._trained_on(),
            batch_sampler=EpochBatches(self.train_samples, self.batch_size, self.seed, rank, world),
            num_workers=min(self.workers, self.batches_per_epoch),  # more would start and have nothing to do
            collate_fn=collate_training,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
        )

    def evaluation_loader(
        self, split: Split, limit: int | None = None, only: Int[Tensor, " m"] | None = None
    ) -> DataLoader[Any]:
        """Labelled samples of one set (`LabelledBatch`), in their own order and all of one shape.

        Args:
            split: which set; "train" is what was pretrained on.
            limit: at most this many samples, chosen by the seed.
            only: or the samples at these positions; a batch's index is then the place in this list.

        Raises:
            InputError: where there is no test set.
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
        """Views of a training batch, on the device it has just reached; any other batch as it is."""
        if not isinstance(batch, Batch):
            return batch
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return self.make_views(batch, epoch)


def _choose(samples: int, limit: int, seed: int) -> Tensor:
    if not 1 <= limit <= samples:
        raise InputError(f"data.limit {limit} is not between 1 and the {samples} training samples")
    return permutation(samples, seed, Purpose.SPLIT)[:limit].sort().values
