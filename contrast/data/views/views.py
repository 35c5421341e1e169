"""What every recipe of views has in common: crop, then a list of steps, each view of each image by its own draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from contrast.data.views.crop import RandomResizedCrop
from contrast.data.views.step import Step
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["RandomViews", "Views"]

_PIECE, _FEWEST_ROWS = 2**18, 8  # pixels of views that a CPU makes at a time, and images at least


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

        def made(images: Tensor, *draws: Tensor) -> tuple[Tensor, ...]:
            pixels = _to_float(images)
            return tuple(self._finish(self._crop(pixels, numbers), numbers) for numbers in draws)

        return self._by_piece(made, images, *self._draws(index, epoch, seed))

    def crop(
        self, images: UInt8[Tensor, "b c h w"], index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c s s"], ...]:
        """The geometry alone: crop, resize and flip. Arguments as in `forward`."""
        _check_channels(images.shape[1])
        pixels = _to_float(images)
        return tuple(
            self._crop(pixels, _draw(index, epoch, seed, view, self._crop.draws)) for view in range(self.count)
        )

    def crop_sample(
        self, image: UInt8[Tensor, "c h w"], index: int, epoch: int, seed: int
    ) -> UInt8[Tensor, "views c s s"]:
        """The geometry of one image in whole grey levels: what a loader's worker does where images differ in size."""
        _check_channels(image.shape[0])
        row = torch.tensor([index], device=image.device)
        crops = [
            self._crop.sample(image, _draw(row, epoch, seed, view, self._crop.draws)) for view in range(self.count)
        ]
        return torch.stack(crops)

    def finish(
        self,
        crops: tuple[UInt8[Tensor, "b c s s"] | Float[Tensor, "b c s s"], ...],
        index: Int[Tensor, " b"],
        epoch: int,
        seed: int,
    ) -> tuple[Float[Tensor, "b c s s"], ...]:
        """What follows the crop: colour and blur, values in [0, 1]. One batch of crops a view, uint8 or float."""

        def made(*both: Tensor) -> tuple[Tensor, ...]:
            pairs = zip(both[: len(crops)], both[len(crops) :], strict=True)
            return tuple(self._finish(_to_float(batch), numbers) for batch, numbers in pairs)

        return self._by_piece(made, *crops, *self._draws(index, epoch, seed)[: len(crops)])

    def _draws(self, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        """All numbers of each view, (b, n): first those of the crop, then those of each step."""
        count = self._crop.draws + sum(step.draws for step in self._steps)
        return [_draw(index, epoch, seed, view, count) for view in range(self.count)]

    def _finish(self, images: Tensor, draws: Tensor) -> Tensor:
        """The steps, which may overwrite the crops."""
        first = self._crop.draws
        for step in self._steps:
            images = step(images, draws[:, first : first + step.draws])
            first += step.draws
        return images

    def _by_piece(self, make: Callable[..., tuple[Tensor, ...]], *batches: Tensor) -> tuple[Tensor, ...]:
        """``make(*batches)``; on a CPU some rows at a time, so that what a step reads is still in the cache."""
        if batches[0].device.type != "cpu":
            return make(*batches)
        rows = max(_FEWEST_ROWS, _PIECE // self.size**2)
        pieces = [make(*piece) for piece in zip(*(torch.split(batch, rows) for batch in batches), strict=True)]
        return pieces[0] if len(pieces) == 1 else tuple(map(torch.cat, zip(*pieces, strict=True)))


def _draw(index: Tensor, epoch: int, seed: int, view: int, count: int) -> Tensor:
    return uniform((seed, epoch, Purpose.VIEW, view), index, count)


def _to_float(images: Tensor) -> Tensor:
    """A float32 copy with values in [0, 1]."""
    return images / 255 if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise InputError(f"images have {channels} channels: views are made of 1 (grey) or 3 (red, green, blue)")
