"""The data of a run: two labelled or unlabelled image sets, their views, and the loaders over them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import lightning
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from contrast.data.batch import Batch
from contrast.data.images import CentreImages, TrainingImages, collate_labelled, collate_training
from contrast.data.indexed import IndexedImages
from contrast.data.labels import check_same_classes, labels_of
from contrast.data.loader import EpochBatches, ResumableLoader
from contrast.data.views import Views
from contrast.errors import InputError
from contrast.randomness import Purpose, permutation

__all__ = ["ImageData"]

Split = Literal["train", "test"]


class ImageData(lightning.LightningDataModule):
    """Images for pretraining and for evaluation, from any map-style dataset classes.

    Files stay uint8 until the device. Views are made there in batches, or cropped in the loader's workers where
    images differ in size. Labels, if there are any, never reach a training batch.

    Args:
        train: what is pretrained on; items are images or (image, label).
        test: what evaluations report on; None where there is none.
        views: the augmentation; its `size` is also the size of evaluation images.
        batch_size: samples a process and step, at least 2.
        workers: loader processes.
        seed: of the order and of every view; the run's seed if a configuration leaves it out.
        channels: 1 or 3; every image is converted.
        mean, std: for standardising after the views, one number a channel or one for all.
        views_in: where crops are made, on the `device` (all images of one size) or in the `workers`.
        limit: pretrain on so many samples, chosen by the seed; None takes all.

    Raises:
        InputError: for a batch size of 1 or a limit out of range; when training starts, for a batch larger than the
            data set.
    """

    def __init__(
        self,
        train: Dataset,  # type: ignore[type-arg]  # annotated Dataset[Any], jsonargparse takes no class's arguments
        views: Views,
        test: Dataset | None = None,  # type: ignore[type-arg]  # as above
        batch_size: int = 256,
        workers: int = 2,
        seed: int = 0,
        channels: int = 3,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        views_in: Literal["device", "workers"] = "device",
        limit: int | None = None,
    ) -> None:
        super().__init__()
        every = IndexedImages(train, channels)
        self.train_images = every if limit is None else every.subset(_choose(len(every), limit, seed))
        self.test_images = None if test is None else IndexedImages(test, channels)
        self.views, self.batch_size, self.workers, self.seed = views, batch_size, workers, seed
        self.channels, self.views_in = channels, views_in
        self.mean, self.std = _per_channel("mean", mean, channels), _per_channel("std", std, channels)
        if batch_size < 2:
            raise InputError(f"data.batch_size {batch_size} leaves no negatives: give at least 2")
        if workers < 0:
            raise InputError(f"data.workers {workers} is negative: give 0 to load in the main process")

    @property
    def train_samples(self) -> int:
        """How many samples are pretrained on."""
        return len(self.train_images)

    @cached_property
    def train_labels(self) -> Int[Tensor, " n"] | None:
        """Labels of the samples that are pretrained on, for observers; None where there are none."""
        return labels_of(self.train_images.source)

    @property
    def classes(self) -> int:
        """How many classes the labels of the train set name.

        Raises:
            InputError: where the train set has no labels.
        """
        if self.train_labels is None:
            raise InputError("the train set has no labels to evaluate with: give --data FILE.yaml with a labelled set")
        return int(self.train_labels.max()) + 1

    def describe(self, split: Split) -> dict[str, Any]:
        """What an evaluation on one set was made on, as JSON: class, number of samples and their transform."""
        images = self.train_images if split == "train" or self.test_images is None else self.test_images
        source: object = images.source
        while isinstance(source, Subset):
            source = source.dataset
        return {
            "set": f"{type(source).__module__}.{type(source).__qualname__}",
            "split": split,
            "samples": len(images),
            "contents": self._contents(images),
            "transform": f"shorter side to {self.views.size} * 256 / 224 and central crop where not {self.views.size} "
            f"already; {self.channels} channels; mean {self.mean}, std {self.std}",
        }

    @staticmethod
    def _contents(images: IndexedImages) -> str:
        """A checksum of the labels, and of the first, middle and last image: enough to tell one set from another."""
        digest = hashlib.sha256()
        labels = labels_of(images.source)
        if labels is not None:
            digest.update(labels.numpy().tobytes())
        for place in (0, len(images) // 2, len(images) - 1):
            digest.update(images[place][0].numpy().tobytes())
        return digest.hexdigest()[:16]

    def setup(self, stage: str) -> None:
        _, world = self._processes()
        if stage == "fit" and self.batch_size * world > self.train_samples:
            raise InputError(
                f"data.batch_size {self.batch_size} on {world} process(es) is larger than the {self.train_samples} "
                f"training samples, so that no whole batch exists: give at most {self.train_samples // world}"
            )
        if self.test_images is not None:
            check_same_classes(self.train_images.source, self.test_images.source)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches that each process sees in an epoch."""
        return self.train_samples // (self.batch_size * self._processes()[1])

    def _processes(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def train_dataloader(self) -> ResumableLoader:
        rank, world = self._processes()
        images = TrainingImages(self.train_images, self.views, self.views_in, self.seed)
        return ResumableLoader(
            images,
            batch_sampler=EpochBatches(len(images), self.batch_size, self.seed, rank, world),
            num_workers=self.workers,
            collate_fn=collate_training,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
        )

    def evaluation_loader(self, split: Split, limit: int | None = None) -> DataLoader[Any]:
        """Labelled uint8 images of one set (`LabelledBatch`), in their own order, at the size of the views.

        Args:
            split: which set; "train" is what was pretrained on.
            limit: so many of them at most, chosen by the seed.

        Raises:
            InputError: where there is no test set.
        """
        if split == "test" and self.test_images is None:
            raise InputError("the data have no test set: give data.test to evaluate on")
        images = self.train_images if split == "train" or self.test_images is None else self.test_images
        if limit is not None and limit < len(images):
            images = images.subset(_choose(len(images), limit, self.seed))
        return DataLoader(
            CentreImages(images, self.views.size),
            batch_size=max(256, self.batch_size),
            num_workers=self.workers,
            collate_fn=collate_labelled,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Views of a training batch, on the device it has just reached; any other batch as it is."""
        if not isinstance(batch, Batch):
            return batch
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return self.make_views(batch, epoch)

    def make_views(self, batch: Batch, epoch: int) -> Batch:
        """The batch with its images replaced by standardised views."""
        assert isinstance(batch.inputs, Tensor)
        with torch.no_grad():
            if self.views_in == "device":
                views = self.views(batch.inputs, batch.index, epoch, self.seed)
            else:
                views = self.views.finish(batch.inputs.unbind(1), batch.index, epoch, self.seed)
            return Batch(tuple(self.standardise(view) for view in views), batch.index)

    def standardise(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """``(x - mean) / std`` for images in [0, 1], channel by channel."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        # The layout that convolutions prefer, on a CPU and on CUDA.
        return (images.contiguous(memory_format=torch.channels_last) - mean) / std


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise InputError(f"data.{name} has {len(values)} numbers for {channels} channels: give one, or one a channel")
    if name == "std" and min(values) <= 0:
        raise InputError(f"data.std {tuple(values)} divides the images: give numbers above 0")
    return tuple(values) if len(values) == channels else tuple(values) * channels


def _choose(samples: int, limit: int, seed: int) -> Tensor:
    if not 1 <= limit <= samples:
        raise InputError(f"data.limit {limit} is not between 1 and the {samples} training samples")
    return permutation(samples, seed, Purpose.SPLIT)[:limit].sort().values
