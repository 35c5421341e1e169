"""What every recipe of views has in common: crop, then a list of steps, each view of each image by its own draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from contrast.arguments import checked
from contrast.data.compiled import PIECE, by_pieces
from contrast.data.views.crop import RandomResizedCrop, to_float
from contrast.data.views.step import OnCpu, Step
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["RandomViews", "Views"]


class RandomViews(nn.Module, ABC):
    """Random views of samples of any kind, made in batches on the device that the samples are on.

    Every random number is a pure function of (seed, epoch, view, sample index): a view is the same alone or in any
    batch, in a worker or on the device, before or after a restart.

    Attributes:
        count: views a sample.
    """

    count: int = 2

    @abstractmethod
    def forward(
        self, samples: Tensor, index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c *space"], ...]:
        """The views of a batch of samples.

        Args:
            samples: of one shape.
            index: which training sample each is.
            epoch: number of the epoch.
            seed: of the run.
        """


class Views(RandomViews, ABC):
    """Random views of images; a recipe is a subclass whose constructor says which crop and which steps.

    Args:
        crop: what is cut out, and whether it is flipped.
        steps: what follows, in order.

    Attributes:
        size: side of a view in pixels.
    """

    size: int

    @abstractmethod
    @checked
    def __init__(self, crop: RandomResizedCrop, steps: Sequence[Step]) -> None:
        super().__init__()
        self.size = crop.size
        self._crop = crop
        self._steps = tuple(steps)

    def extra_repr(self) -> str:
        return "\n".join(map(repr, (self._crop, *self._steps)))

    @checked
    def forward(
        self, images: UInt8[Tensor, "b c h w"], index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c s s"], ...]:
        """The views of a batch of images of one size, values in [0, 1], float32 throughout.

        Args:
            images: 1 or 3 channels.
            index: which training sample each image is.
            epoch: number of the epoch.
            seed: of the run.
        """
        _check_channels(images.shape[1])
        draws = self._draws(index, epoch, seed)
        if images.device.type != "cpu":
            return tuple(self._finished(self._crop(images, of_view), of_view) for of_view in draws)
        every = torch.cat(draws)
        return self._on_cpu(self._crop.on_cpu(images, every), every, images.shape[1], self.count)

    @checked
    def crop(
        self, images: UInt8[Tensor, "b c h w"], index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c s s"], ...]:
        """The geometry alone: crop, resize and flip. Arguments as in `forward`."""
        _check_channels(images.shape[1])
        return tuple(
            self._crop(images, _draw(index, epoch, seed, view, self._crop.draws)) for view in range(self.count)
        )

    @checked
    def crop_sample(
        self, image: UInt8[Tensor, "c h w"], index: int, epoch: int, seed: int
    ) -> UInt8[Tensor, "views c s s"]:
        """The geometry of one image in whole grey levels: what a loader's worker does where images differ in size."""
        _check_channels(image.shape[0])
        row = torch.tensor([index], device=image.device)
        draws = [_draw(row, epoch, seed, view, self._crop.draws) for view in range(self.count)]
        return self._crop.sample(image, torch.cat(draws))

    def finish(
        self,
        crops: tuple[UInt8[Tensor, "b c s s"] | Float[Tensor, "b c s s"], ...],
        index: Int[Tensor, " b"],
        epoch: int,
        seed: int,
    ) -> tuple[Float[Tensor, "b c s s"], ...]:
        """What follows the crop: colour and blur, values in [0, 1]. One batch of crops a view, uint8 or float."""
        draws = self._draws(index, epoch, seed)[: len(crops)]
        if crops[0].device.type != "cpu":
            return tuple(self._finished(to_float(crop), of_view) for crop, of_view in zip(crops, draws, strict=True))
        every = torch.cat(crops).numpy()
        unit = np.float32(255 if every.dtype == np.uint8 else 1)

        def begin(images: NDArray[np.float32], rows: slice) -> None:
            np.divide(every[rows], unit, out=images)

        return self._on_cpu(begin, torch.cat(draws), every.shape[1], len(crops))

    def _draws(self, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        """All numbers of each view, (b, n): first those of the crop, then those of each step."""
        count = self._crop.draws + sum(step.draws for step in self._steps)
        return [_draw(index, epoch, seed, view, count) for view in range(self.count)]

    def _finished(self, crops: Tensor, draws: Tensor) -> Tensor:
        """The crops of a view after all steps."""
        for step, numbers in self._each_step(draws):
            crops = step(crops, numbers)
        return crops

    def _on_cpu(self, begin: OnCpu, draws: Tensor, channels: int, count: int) -> tuple[Tensor, ...]:
        """The first `count` views, one after another in memory, of which `begin` writes the crops."""
        views = torch.empty((len(draws), channels, self.size, self.size))
        changes = [begin, *(step.on_cpu(numbers) for step, numbers in self._each_step(draws))]
        pixels = views.numpy()

        def make(rows: slice) -> None:
            for change in changes:
                change(pixels[rows], rows)

        by_pieces(len(views), max(1, PIECE // self.size**2), make)
        return views.view(count, -1, *views.shape[1:]).unbind()

    def _each_step(self, draws: Tensor) -> Iterator[tuple[Step, Tensor]]:
        """Each step with its columns of the draws."""
        first = self._crop.draws
        for step in self._steps:
            yield step, draws[:, first : first + step.draws]
            first += step.draws


def _draw(index: Tensor, epoch: int, seed: int, view: int, count: int) -> Tensor:
    return uniform((seed, epoch, Purpose.VIEW, view), index, count)


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise InputError(f"images have {channels} channels: views are made of 1 (grey) or 3 (red, green, blue)")
