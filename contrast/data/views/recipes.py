"""Random views of images in a batch: the recipes of SimCLR, MoCo v1 and MoCo v2."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from contrast.checks import check_between, check_interval, checked
from contrast.data._loops import PIECE, by_pieces
from contrast.data.views.blur import GaussianBlur
from contrast.data.views.colour import ColourJitter, RandomGrey
from contrast.data.views.crop import RandomResizedCrop, to_float
from contrast.data.views.step import OnCpu, Step
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["MoCoV1Views", "MoCoV2Views", "RandomViews", "SimCLRViews", "Views"]


class RandomViews(nn.Module, ABC):
    """Base class of random views of samples, made in batches on the samples' device.

    Every random number is a pure function of (seed, epoch, view, sample index). A view is therefore the same alone or
    in any batch, in a worker or on the device, before or after a resume.

    Attributes:
        count: number of views per sample.
    """

    count: int = 2

    @abstractmethod
    def forward(
        self, samples: Tensor, index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c *space"], ...]:
        """Make the views of a batch of samples.

        Args:
            samples: samples of one shape.
            index: index of each sample in the training set, (b,).
            epoch: number of the epoch.
            seed: seed of the run.

        Returns:
            One batch of float samples per view.
        """


class Views(RandomViews, ABC):
    """Base class of random views of images: a crop, followed by a list of augmentation steps.

    A recipe is a subclass whose constructor chooses the crop and the steps.

    Args:
        crop: random resized crop, with a random flip.
        steps: augmentation steps after the crop, in order.

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
        """Make the views of a batch of images of one size; values in [0, 1], computed in float32.

        Args:
            images: uint8, 1 or 3 channels.
            index: index of each image in the training set, (b,).
            epoch: number of the epoch.
            seed: seed of the run.

        Returns:
            One float32 batch per view.
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
        """Only the geometric part of the views: crop, resize and flip. Arguments as in `forward`."""
        _check_channels(images.shape[1])
        return tuple(
            self._crop(images, _draw(index, epoch, seed, view, self._crop.draws)) for view in range(self.count)
        )

    @checked
    def crop_sample(
        self, image: UInt8[Tensor, "c h w"], index: int, epoch: int, seed: int
    ) -> UInt8[Tensor, "views c s s"]:
        """Crop, resize and flip one image, rounded to uint8; used in a loader's worker if images differ in size.

        Args:
            image: uint8, 1 or 3 channels.
            index: index of the image in the training set.
            epoch: number of the epoch.
            seed: seed of the run.

        Returns:
            One crop per view, (views, c, size, size).
        """
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
        """The part of the views after the crop: colour and blur, values in [0, 1].

        Args:
            crops: one batch of crops per view, uint8 or floats in [0, 1].
            index: index of each image in the training set, (b,).
            epoch: number of the epoch.
            seed: seed of the run.
        """
        draws = self._draws(index, epoch, seed)[: len(crops)]
        if crops[0].device.type != "cpu":
            return tuple(self._finished(to_float(crop), of_view) for crop, of_view in zip(crops, draws, strict=True))
        every = torch.cat(crops).numpy()
        unit = np.float32(255 if every.dtype == np.uint8 else 1)

        def begin(images: NDArray[np.float32], rows: slice) -> None:
            np.divide(every[rows], unit, out=images)

        return self._on_cpu(begin, torch.cat(draws), every.shape[1], len(crops))

    def _draws(self, index: Tensor, epoch: int, seed: int) -> list[Tensor]:
        """Random numbers of each view, (b, n): first the numbers of the crop, then those of each step."""
        count = self._crop.draws + sum(step.draws for step in self._steps)
        return [_draw(index, epoch, seed, view, count) for view in range(self.count)]

    def _finished(self, crops: Tensor, draws: Tensor) -> Tensor:
        """Apply all steps to the crops of a view."""
        for step, numbers in self._each_step(draws):
            crops = step(crops, numbers)
        return crops

    def _on_cpu(self, begin: OnCpu, draws: Tensor, channels: int, count: int) -> tuple[Tensor, ...]:
        """Make the first `count` views on a CPU, in several threads and one array; `begin` writes the crops."""
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


class SimCLRViews(Views):
    """SimCLR's random views: crop and flip, colour jitter, grayscale, blur.

    For CIFAR-10 set `jitter_strength` 0.5 and `blur` 0 (appendix B.9). The authors' code resizes by bicubic
    interpolation and pads with zeros before the blur; here resizing and blur are those of torchvision.

    Args:
        size: side of a view in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height of a crop.
        flip: probability of a left-to-right flip.
        jitter_strength: s, from 0 to 2.5. Brightness, contrast and saturation vary by 0.8 s, the hue by 0.2 s turns.
        jitter: probability of the colour jitter.
        grey: probability of grayscale.
        blur: probability of the blur. Its kernel is a tenth of `size` wide, made odd.
        blur_sigma: smallest and largest standard deviation of the blur, in pixels.

    Raises:
        InputError: for an argument outside its range.

    Source: Chen et al., ICML 2020, arXiv 2002.05709, appendix A.

    Example:
        >>> import torch
        >>> images = torch.randint(0, 256, (4, 3, 40, 48), dtype=torch.uint8)
        >>> first, second = SimCLRViews(size=32)(images, index=torch.arange(4), epoch=0, seed=0)
        >>> tuple(first.shape), bool((first == second).all())
        ((4, 3, 32, 32), False)
    """

    @checked
    def __init__(
        self,
        size: int = 224,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        jitter_strength: float = 1.0,
        jitter: float = 0.8,
        grey: float = 0.2,
        blur: float = 0.5,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
    ) -> None:
        check_between("jitter_strength", jitter_strength, 0, 2.5)
        colour, hue = 0.8 * jitter_strength, 0.2 * jitter_strength
        super().__init__(
            RandomResizedCrop(size, crop_scale, crop_ratio, flip),
            (
                ColourJitter(colour, colour, colour, hue, jitter),
                RandomGrey(grey),
                GaussianBlur(size // 10 // 2, blur, blur_sigma),
            ),
        )


class MoCoV1Views(Views):
    """MoCo v1's random views: crop, grayscale, colour jitter on every image, flip.

    Grayscale comes before the jitter. The flip commutes with the other steps, so it is part of the crop.

    Args:
        size: side of a view in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height of a crop.
        grey: probability of grayscale.
        brightness: x; the brightness factor is uniform in 1 ± x.
        contrast: x; the contrast factor is uniform in 1 ± x.
        saturation: x; the saturation factor is uniform in 1 ± x.
        hue: largest shift of the hue, in turns.
        flip: probability of a left-to-right flip.

    Raises:
        InputError: for an argument outside its range.

    Source: He et al., CVPR 2020, arXiv 1911.05722, section 3.3, in the order of the authors' code, which follows Wu et
    al., CVPR 2018, arXiv 1805.01978.
    """

    @checked
    def __init__(
        self,
        size: int = 224,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        grey: float = 0.2,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.4,
        flip: float = 0.5,
    ) -> None:
        super().__init__(
            RandomResizedCrop(size, crop_scale, crop_ratio, flip),
            (RandomGrey(grey), ColourJitter(brightness, contrast, saturation, hue)),
        )


class MoCoV2Views(Views):
    """MoCo v2's random views: crop, colour jitter, grayscale, blur, flip.

    The flip commutes with the other steps, so it is part of the crop. The authors' blur is Pillow's approximation of a
    Gaussian. Here the blur is a Gaussian, cut off at four times the largest standard deviation for every `size`.

    Args:
        size: side of a view in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height of a crop.
        brightness: x; the brightness factor is uniform in 1 ± x.
        contrast: x; the contrast factor is uniform in 1 ± x.
        saturation: x; the saturation factor is uniform in 1 ± x.
        hue: largest shift of the hue, in turns.
        jitter: probability of the colour jitter.
        grey: probability of grayscale.
        blur: probability of the blur.
        blur_sigma: smallest and largest standard deviation of the blur, in pixels.
        flip: probability of a left-to-right flip.

    Raises:
        InputError: for an argument outside its range.

    Source: Chen et al., 2020, arXiv 2003.04297, section 3, in the order of the authors' code.
    """

    @checked
    def __init__(
        self,
        size: int = 224,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        jitter: float = 0.8,
        grey: float = 0.2,
        blur: float = 0.5,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        flip: float = 0.5,
    ) -> None:
        check_interval("blur_sigma", blur_sigma)
        # Reflection at the border needs a radius below the image's size.
        radius = min(math.ceil(4 * blur_sigma[1]), size - 1)
        super().__init__(
            RandomResizedCrop(size, crop_scale, crop_ratio, flip),
            (
                ColourJitter(brightness, contrast, saturation, hue, jitter),
                RandomGrey(grey),
                GaussianBlur(radius, blur, blur_sigma),
            ),
        )
