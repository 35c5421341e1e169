"""Training data from any image data set."""

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
    """The picture as large as a square cell allows; enlarged by repeating pixels, so that they can be told apart.

    Args:
        picture: (1 or 3, h, w), uint8 or in [0, 1].
        cell: pixels of its longer side.
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
    """Images by (epoch, position), without labels; cropped here where they differ in size.

    Args:
        images: what is trained on.
        views: the augmentation, whose crops are made here if `views_in` is "workers".
        views_in: "device" hands out whole images.
        seed: of the views.
    """

    def __init__(self, images: IndexedImages, views: Views, views_in: Literal["device", "workers"], seed: int) -> None:
        self._images = images
        self._views, self._views_in, self._seed = views, views_in, seed
        if views_in == "workers":  # are started anew for every epoch, and each would have to compile what it calls
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
        """What torch's loader asks for: a batch at once where that is possible, many times as fast, else samples."""
        index = [index for _, index in places]
        images = self._images.stacked(index) if self._views_in == "device" else None
        return [self[place] for place in places] if images is None else Batch(images, torch.tensor(index))


class CentreImages(Dataset[tuple[Tensor, int, int]]):
    """Labelled images at one size, as evaluations see them."""

    def __init__(self, images: IndexedImages, size: int) -> None:
        self._images, self._size = images, size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        image, index, label = self._images[index]
        return centre(image, self._size), index, label


def centre(image: UInt8[Tensor, "c h w"], size: int) -> UInt8[Tensor, "c {size} {size}"]:
    """The middle of an image: shorter side to ``size · 256 / 224``, then a central crop; an image of the size as it is.

    The usual evaluation transform of ImageNet (He et al., CVPR 2016, arXiv 1512.03385, section 3.4, with its
    ratio of 256 to 224 at every size). An image whose shorter side is below `size` is only enlarged to it.
    """
    height, width = image.shape[-2:]
    if (height, width) == (size, size):
        return image
    shorter = round(size * 256 / 224) if min(height, width) > size else size
    resized = transforms.resize(image, [shorter], antialias=True)
    middle: Tensor = transforms.center_crop(resized, [size, size])
    return middle


_PICTURE = 96  # pixels of a picture's longer side


class ImageData(TrainingData):
    """Images for pretraining and for evaluation, from any map-style dataset classes.

    Files stay uint8 until the device. Views are made there in batches, or cropped in the loader's workers where
    images differ in size. Labels, if there are any, never reach a training batch.

    Args:
        train: what is pretrained on; items are images or (image, label).
        test: what evaluations report on; None where there is none.
        views: the augmentation; its `size` is also the size of evaluation images.
        batch_size: samples a process and step, at least 2.
        workers: loader processes; no more are started than there are batches.
        seed: of the order and of every view; the run's seed if a configuration leaves it out.
        channels: 1 or 3; every image is converted.
        mean, std: for standardising after the views, one number a channel or one for all, of pixels in [0, 1]; None
            measures them on the training set (see `statistics_of`: at most 512 images, chosen by the seed), rounded to
            four digits (a channel that never changes is divided by 1).
        views_in: where crops are made, on the `device` (all images of one size) or in the `workers`.
        limit: pretrain on so many samples, chosen by the seed; None takes all.

    Raises:
        InputError: for a batch size of 1, a limit out of range, or one of mean and std without the other; when training
            starts, for a batch larger than the data set.
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
