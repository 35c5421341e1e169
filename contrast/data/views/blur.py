"""Random Gaussian blur."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from contrast.data.views import compiled_blur
from contrast.data.views.arguments import check_at_least, check_between, check_interval
from contrast.data.views.separable import full_precision
from contrast.data.views.step import OnCpu, Step, apply_where
from contrast.errors import InputError

__all__ = ["GaussianBlur", "gaussian_blur"]


@dataclass(frozen=True)
class GaussianBlur(Step):
    """Blur by a Gaussian of random width, by chance.

    Args:
        radius: the kernel has ``2 radius + 1`` pixels, not negative; 0 blurs nothing.
        blur: probability.
        blur_sigma: smallest and largest standard deviation in pixels, drawn uniformly.

    Raises:
        InputError: an argument outside its range, or views whose side is not longer than the radius.
    """

    radius: int
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    draws: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_at_least("radius", self.radius, 0)
        check_between("blur", self.blur, 0, 1)
        check_interval("blur_sigma", self.blur_sigma)

    def __call__(self, images: Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        if self.radius == 0 or self.blur == 0:
            return images
        self._check(*images.shape[2:])
        chosen, sigma = self.parameters(draws)
        return apply_where(chosen, lambda rows, widths: gaussian_blur(rows, widths, self.radius), images, sigma)

    def on_cpu(self, draws: Float[Tensor, "b n"]) -> OnCpu:
        chosen, sigma = (numbers.numpy() for numbers in self.parameters(draws))

        def change(images: NDArray[np.float32], rows: slice) -> None:
            if self.radius > 0 and chosen[rows].any():
                self._check(*images.shape[2:])
                compiled_blur.blur(images, chosen[rows], sigma[rows], self.radius)

        return change

    def parameters(self, draws: Float[Tensor, "b n"]) -> tuple[Bool[Tensor, " b"], Float[Tensor, " b"]]:
        """Which images are blurred, and by which standard deviation."""
        low, high = self.blur_sigma
        return draws[:, 0] < self.blur, low + (high - low) * draws[:, 1]

    def _check(self, height: int, width: int) -> None:
        if self.radius >= min(height, width):
            raise InputError(
                f"radius is {self.radius}: borders are reflected, and views of {width}x{height} pixels reach only "
                f"{min(height, width) - 1} far; give at most that"
            )


def gaussian_blur(
    images: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"], radius: int
) -> Float[Tensor, "b c h w"]:
    """Convolve with ``exp(-t² / 2σ²)``, ``|t| <= radius``, normalised to sum one, along rows and columns.

    Args:
        images: values in [0, 1]; the border is reflected, so each side must be longer than `radius`.
        sigma: standard deviation in pixels, one an image.
        radius: of the kernel, in pixels.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.softmax(-0.5 * (offsets / sigma[:, None]).square(), 1)
    # The tails of a narrow kernel are denormal numbers, with which a CPU multiplies ten times more slowly.
    kernel = F.threshold(kernel, 1e-12, 0.0)
    weight = kernel.repeat_interleave(images.shape[1], 0)[:, None, None]  # each channel is a group of its own
    padded = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    with full_precision(images.device):
        narrow = F.conv2d(padded, weight, groups=len(weight))
        blurred = F.conv2d(narrow, weight.mT, groups=len(weight))
    return blurred.view_as(images).clamp_(0, 1)
