"""Gaussian blur and separable filters for images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from contrast.checks import check_at_least, check_between, check_interval, checked_fields
from contrast.data import _loops as compiled_blur
from contrast.data.views.step import OnCpu, Step, apply_where
from contrast.errors import InputError

__all__ = ["GaussianBlur", "full_precision", "gaussian_blur", "separable"]


def separable(
    rows: Float[Tensor, "b y h"], images: Float[Tensor, "b c h w"], columns: Float[Tensor, "b x w"]
) -> Float[Tensor, "b c y x"]:
    """Apply a separable filter to every image with its own two matrices: ``rows @ image @ columns.T``.

    Args:
        rows: vertical filter of each image, (b, y, h).
        images: (b, c, h, w).
        columns: horizontal filter of each image, (b, x, w).

    Returns:
        (b, c, y, x).
    """
    with full_precision(images.device):
        narrow = (images.flatten(1, 2) @ columns.mT).reshape(*images.shape[:3], -1)
        wide: Tensor = rows[:, None] @ narrow
        return wide


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Context manager for matrix products and convolutions in full float32 precision.

    Autocast and reduced precision, which may be chosen for the network's matrix products, must not affect views: TF32
    loses a tenth of a grey level, bfloat16 a whole grey level.
    """
    of_cuda = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]  # set at import
    of_cpu = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]  # set at import
    backends = (*of_cuda, *of_cpu)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@checked_fields
@dataclass(frozen=True)
class GaussianBlur(Step):
    """Random Gaussian blur: with some probability, blur by a Gaussian of random width.

    Args:
        radius: the kernel has ``2 radius + 1`` pixels. Not negative; 0 blurs nothing.
        blur: probability of the blur.
        blur_sigma: smallest and largest standard deviation in pixels, drawn uniformly.

    Raises:
        InputError: for an argument outside its range. When called: if a side of the views is not longer than the
            radius.
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
        """Which images are blurred, and the standard deviation of each blur."""
        low, high = self.blur_sigma
        return draws[:, 0] < self.blur, low + (high - low) * draws[:, 1]

    def _check(self, height: int, width: int) -> None:
        if self.radius >= min(height, width):
            raise InputError(
                f"radius is {self.radius}: reflected borders of {width}x{height} pixels allow at most "
                f"{min(height, width) - 1}: give at most that"
            )


def gaussian_blur(
    images: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"], radius: int
) -> Float[Tensor, "b c h w"]:
    """Gaussian blur along rows and columns; the kernel is ``exp(-t² / 2σ²)``, ``|t| <= radius``, normalised to sum one.

    Args:
        images: values in [0, 1]. The border is reflected, so each side must be longer than `radius`.
        sigma: standard deviation in pixels, one per image.
        radius: radius of the kernel in pixels.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.softmax(-0.5 * (offsets / sigma[:, None]).square(), 1)
    # The tails of a narrow kernel are denormal numbers, which make a CPU's products ten times slower.
    kernel = F.threshold(kernel, 1e-12, 0.0)
    weight = kernel.repeat_interleave(images.shape[1], 0)[:, None, None]  # one convolution group per channel
    padded = F.pad(images, (radius,) * 4, mode="reflect").flatten(0, 1)[None]
    with full_precision(images.device):
        narrow = F.conv2d(padded, weight, groups=len(weight))
        blurred = F.conv2d(narrow, weight.mT, groups=len(weight))
    return blurred.view_as(images).clamp_(0, 1)
