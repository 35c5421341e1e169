"""Data module for images: pretraining and evaluation on any image data set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.data.indexed import IndexedImages
from contrast.data.sources import MapStyle
from contrast.data.standardisation import Standardisation
from contrast.data.training_data import TrainingData
from contrast.data.views import Views

__all__ = ["CentreImages", "ImageData", "TrainingImages", "centre", "thumbnail"]


def thumbnail(picture: Tensor, cell: int) -> Image.Image:
    """Thumbnail of a picture, as large as a square cell allows; enlarged by repeating pixels, to keep them visible.

    Args:
        picture: (1 or 3, h, w), uint8 or floats in [0, 1].
        cell: length of the result's longer side, in pixels.
    """
    if picture.is_floating_point():
        picture = (picture * 255).round().to(torch.uint8)
    colour = picture.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous()
    height, width = colour.shape[:2]
    scale = cell / max(height, width)
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    drawn = Image.fromarray(colour.numpy())
    return drawn.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Training images, indexed by (epoch, position), without labels; cropped here if the images differ in size.

    Args:
        images: the training images.
        views: the augmentation. Its crops are made here if `views_in` is "workers".
        views_in: "device" returns whole images, "workers" returns crops.
        seed: random seed of the views.
    """

    def __init__(self, images: IndexedImages, views: Views, views_in: Literal["device", "workers"], seed: int) -> None:
        self._images = images
        self._views, self._views_in, self._seed = views, views_in, seed
        if views_in == "workers":  # compile now: workers restart every epoch, and each would have to compile again
            views.crop_sample(torch.zeros((1, 1, 1), dtype=torch.uint8), 0, epoch=0, seed=seed)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = place
        image, _, _ = self._images[index]
        if self._views_in == "workers":
            image = self._views.crop_sample(image, index, epoch, self._seed)
        return image, index

    def __getitems__(self, places: Sequence[tuple[int, int]]) -> Batch | list[tuple[Tensor, int]]:
        """Samples for torch's loader: a whole batch if possible, which is many times faster, else a list of samples."""
        index = [index for _, index in places]
        images = self._images.stacked(index) if self._views_in == "device" else None
        return [self[place] for place in places] if images is None else Batch(images, torch.tensor(index))


class CentreImages(Dataset[tuple[Tensor, int, int]]):
    """Labelled images, resized and centre-cropped to one size for evaluation."""

    def __init__(self, images: IndexedImages, size: int) -> None:
        self._images, self._size = images, size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image, index, label = self._images[index]
        return centre(image, self._size), index, label


def centre(image: UInt8[Tensor, "c h w"], size: int) -> UInt8[Tensor, "c {size} {size}"]:
    """Centre crop for evaluation: resize the shorter side to ``size · 256 / 224``, then crop the centre.

    This is the usual evaluation transform of ImageNet, with its ratio of 256 to 224 at every size. An image that
    already has the target size is returned unchanged. An image whose shorter side is below `size` is only enlarged to
    `size`.

    Args:
        image: uint8.
        size: side of the result in pixels.

    Source: He et al., CVPR 2016, arXiv 1512.03385, section 3.4.
    """
    height, width = image.shape[-2:]
    if (height, width) == (size, size):
        return image
    shorter = round(size * 256 / 224) if min(height, width) > size else size
    resized = transforms.resize(image, [shorter], antialias=True)
    middle: Tensor = transforms.center_crop(resized, [size, size])
    return middle


_PICTURE = 96  # longer side of a picture, in pixels


class ImageData(TrainingData):
    """Data module for images: pretraining and evaluation on any map-style data sets.

    Images stay uint8 until they are on the device. Views are made there in batches; if the images differ in size, the
    loader's workers crop them first. Labels, if there are any, never reach a training batch.

    Args:
        train: the training set. Its items are images or (image, label).
        views: the augmentation. Its `size` is also the size of evaluation images.
        test: the test set that evaluations report on; None if there is none.
        batch_size: samples per process and step, at least 2.
        workers: number of loader processes. No more are started than there are batches.
        seed: random seed of the sample order and of every view. A configuration that leaves it out uses the run's seed.
        channels: 1 or 3; every image is converted.
        mean: mean of the pixels in [0, 1], to standardise the views: one number per channel, or one for all. None
            measures mean and std on the training set, rounded to four digits (`statistics_of`: at most 512 images,
            chosen by the seed).
        std: standard deviation of the pixels, in the same form. A measured 0 (a constant channel) is replaced by 1.
        views_in: where crops are made: on the `device`, if all images have one size, or in the `workers`.
        limit: number of samples to pretrain on, chosen by the seed. None takes all.

    Raises:
        InputError: if the batch size is below 2, the limit is out of range, or only one of mean and std is given. When
            training starts: if a batch is larger than the data set.
    """

    samples_name, value_name = "images", "pixel"

    @checked
    def __init__(
        self,
        train: Dataset | MapStyle,  # type: ignore[type-arg]  # annotated Dataset[Any], jsonargparse takes no class's arguments
        views: Views,
        test: Dataset | MapStyle | None = None,  # type: ignore[type-arg]  # as above
        batch_size: int = 256,
        workers: int = 2,
        seed: int = 0,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        views_in: Literal["device", "workers"] = "device",
        limit: int | None = None,
    ) -> None:
        held_out = None if test is None else IndexedImages(test, channels)
        super().__init__(IndexedImages(train, channels), held_out, batch_size, workers, seed, limit)
        self.views, self.channels, self.views_in = views, channels, views_in
        self._given = Standardisation.of_configuration(mean, std, channels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.channels, self.views.size, self.views.size)

    @cached_property
    def standardisation(self) -> Standardisation:
        if self._given is not None:
            return self._given
        found = self.train_statistics
        mean, std = ([float(f"{value:.4g}") for value in found[name]] for name in ("mean", "std"))
        return Standardisation(tuple(mean), tuple(value or 1.0 for value in std))

    def measured(self) -> dict[str, list[float]]:
        scale = self.standardisation
        return {} if self._given is not None else {"mean": list(scale.mean), "std": list(scale.std)}

    def describe_input(self) -> dict[str, Any]:
        return {
            "image_size": self.views.size,
            "channels": self.channels,
            "mean": list(self.standardisation.mean),
            "std": list(self.standardisation.std),
            "pixels": "scaled to [0, 1], then standardised",
        }

    @property
    def extent(self) -> str:
        return f"{self.views.size} pixels"

    @property
    def transform(self) -> str:
        return (
            f"shorter side to {self.views.size} * 256 / 224 and central crop where not {self.views.size} already; "
            f"{self.channels} channels; mean {self.standardisation.mean}, std {self.standardisation.std}"
        )

    @property
    def recipe(self) -> str:
        return type(self.views).__name__

    def make_views(self, batch: Batch, epoch: int) -> Batch:
        """The batch with its images replaced by standardised views."""
        assert isinstance(batch.inputs, Tensor)
        with torch.no_grad():
            if self.views_in == "device":
                views = self.views(batch.inputs, batch.index, epoch, self.seed)
            else:
                views = self.views.finish(batch.inputs.unbind(1), batch.index, epoch, self.seed)
            return Batch(tuple(self.standardisation(view) for view in views), batch.index)

    def picture(self, sample: Tensor) -> Image.Image:
        return thumbnail(sample, _PICTURE)

    def _undone(self, views: Tensor) -> Tensor:
        return self.standardisation.undone(views).clamp(0, 1)

    def _trained_on(self) -> TrainingImages:
        assert isinstance(self.train_set, IndexedImages)
        return TrainingImages(self.train_set, self.views, self.views_in, self.seed)

    def _evaluated(self, samples: Any) -> CentreImages:
        return CentreImages(samples, self.views.size)
