"""What every recipe of views has in common: crop, then a list of steps, each view of each image by its own draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from contrast.data.views.crop import RandomResizedCrop, to_float
from contrast.data.views.step import Step
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["RandomViews", "Views"]

_PIECE, _FEWEST_ROWS = 2**19, 8  # pixels of views that a CPU makes at a time, and images at least


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
    def __init__(self, crop: RandomResizedCrop, steps: Sequence[Step]) -> None:
        super().__init__()
        self.size = crop.size
        self._crop = crop
        self._steps = tuple(steps)

    def extra_repr(self) -> str:
        return "\n".join(map(repr, (self._crop, *self._steps)))

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

        def begin(first: int, draws: Tensor, out: Tensor) -> None:
            self._crop(_again(images, first, len(out)), draws, out)

        return self._made(begin, images, index, epoch, seed, self.count)

    def crop(
        self, images: UInt8[Tensor, "b c h w"], index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c s s"], ...]:
        """The geometry alone: crop, resize and flip. Arguments as in `forward`."""
        _check_channels(images.shape[1])
        return tuple(
            self._crop(images, _draw(index, epoch, seed, view, self._crop.draws)) for view in range(self.count)
        )

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

        every = torch.cat(crops)

        def begin(first: int, _: Tensor, out: Tensor) -> None:
            to_float(every[first : first + len(out)], out=out)

        return self._made(begin, crops[0], index, epoch, seed, len(crops))

    def _made(
        self,
        begin: Callable[[int, Tensor, Tensor], None],
        images: Tensor,
        index: Tensor,
        epoch: int,
        seed: int,
        count: int,
    ) -> tuple[Tensor, ...]:
        """The first `count` views, one after another in memory, of which ``begin(first, draws, out)`` writes the crops.

        An accelerator makes one view at a time. A CPU makes so many images at a time, of one view or of several, that
        what a step reads is still in the cache, and that small batches take few calls.
        """
        draws = torch.cat(self._draws(index, epoch, seed)[:count])
        views = torch.empty((len(draws), images.shape[1], self.size, self.size), device=images.device)
        rows = max(_FEWEST_ROWS, _PIECE // self.size**2) if images.device.type == "cpu" else len(images)
        for first in range(0, len(views), max(1, rows)):
            piece = slice(first, first + rows)
            begin(first, draws[piece], views[piece])
            self._finish(views[piece], draws[piece])
        return views.view(count, len(images), *views.shape[1:]).unbind()

    def _draws(self, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        """All numbers of each view, (b, n): first those of the crop, then those of each step."""
        count = self._crop.draws + sum(step.draws for step in self._steps)
        return [_draw(index, epoch, seed, view, count) for view in range(self.count)]

    def _finish(self, crops: Tensor, draws: Tensor) -> None:
        """The steps, in place of the crops."""
        first, images = self._crop.draws, crops
        for step in self._steps:
            images = step(images, draws[:, first : first + step.draws])
            first += step.draws
        if images is not crops:
            crops.copy_(images)


def _again(images: Tensor, first: int, count: int) -> Tensor:
    """So many of the images, from one on, as if they followed each other over and over."""
    if count == len(images):  # which are those of a whole view
        return images
    return images.index_select(0, torch.arange(first, first + count, device=images.device) % len(images))


def _draw(index: Tensor, epoch: int, seed: int, view: int, count: int) -> Tensor:
    return uniform((seed, epoch, Purpose.VIEW, view), index, count)


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise InputError(f"images have {channels} channels: views are made of 1 (grey) or 3 (red, green, blue)")
