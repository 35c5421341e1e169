"""Random resized crop and horizontal flip of a batch: each image has its own box, all results have one size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from contrast.checks import check_at_least, check_between, check_interval, checked_fields
from contrast.data import _loops as compiled_crop
from contrast.data.views.blur import separable
from contrast.data.views.step import OnCpu

__all__ = ["RandomResizedCrop", "resize_boxes", "to_float"]

_TRIES = 10
_LARGEST = 16_384  # one larger view would fill a device's memory


@checked_fields
@dataclass(frozen=True)
class RandomResizedCrop:
    """Random resized crop with horizontal flip: a box of random area, aspect ratio and place, resized to a square.

    The area is uniform in `crop_scale` times the image's area. The logarithm of width / height is uniform between the
    logarithms of `crop_ratio`. The place is uniform among whole pixels. The first of ten tries that fits in the image
    is taken. If none fits, the largest central box with a ratio inside `crop_ratio` is taken.

    Args:
        size: side of the result in pixels.
        crop_scale: smallest and largest share of the image's area, inside (0, 1].
        crop_ratio: smallest and largest width / height.
        flip: probability of a left-to-right flip.

    Raises:
        InputError: for an argument outside its range.

    Source: the crop of Inception (Szegedy et al., CVPR 2015, arXiv 1409.4842, section 6), drawn as in torchvision.
    """

    size: int = 224
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    # The areas of all tries, their ratios, then top, left and flip.
    draws: ClassVar[int] = 2 * _TRIES + 3

    def __post_init__(self) -> None:
        check_at_least("size", self.size, 1)
        check_between("size", self.size, 1, _LARGEST)
        check_interval("crop_scale", self.crop_scale, high=1)
        check_interval("crop_ratio", self.crop_ratio)
        check_between("flip", self.flip, 0, 1)

    def __call__(
        self, images: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]
    ) -> Float[Tensor, "b c s s"]:
        """Crop each image, uint8 or floats in [0, 1], by its own row of `draws`, which are uniform in [0, 1)."""
        if images.device.type != "cpu":
            return resize_boxes(images, self.boxes(draws, *images.shape[2:]), self.flips(draws), self.size)
        made = torch.empty((*images.shape[:2], self.size, self.size))
        self.on_cpu(images, draws)(made.numpy(), slice(0, len(made)))
        return made

    def on_cpu(self, images: UInt8[Tensor, "k c h w"] | Float[Tensor, "k c h w"], draws: Float[Tensor, "b n"]) -> OnCpu:
        """Function that writes the crops for some rows of `draws`; the images repeat if there are fewer than rows."""
        pixels, unit = images.numpy(), 1 if images.is_floating_point() else 255
        boxes, flip = self.boxes(draws, *images.shape[2:]).numpy(), self.flips(draws).numpy()
        return lambda out, rows: compiled_crop.resize(pixels, rows.start, boxes[rows], flip[rows], unit, out)

    def sample(self, image: UInt8[Tensor, "c h w"], draws: Float[Tensor, "v n"]) -> UInt8[Tensor, "v c s s"]:
        """Crop one image on the CPU, rounded to uint8: one crop for each row of `draws`."""

        boxes, flips = self.boxes(draws, image.shape[1], image.shape[2]).tolist(), self.flips(draws).tolist()
        return torch.stack([_resize_box(image, *each, self.size) for each in zip(boxes, flips, strict=True)])

    def flips(self, draws: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
        """Which images are flipped."""
        return draws[:, 2 * _TRIES + 2] < self.flip

    def boxes(self, draws: Float[Tensor, "b n"], height: int, width: int) -> Int[Tensor, "b 4"]:
        """Top, left, height and width of each box, in whole pixels of an image of `height` by `width`."""
        if draws.device.type == "cpu":
            log_ratio, central = tuple(map(math.log, self.crop_ratio)), self._central(height, width)
            scale = tuple(map(float, self.crop_scale))  # always floats, so that numba compiles only once
            return torch.from_numpy(
                compiled_crop.boxes(draws.numpy(), _TRIES, height, width, scale, log_ratio, central)
            )
        return self._boxes(draws, height, width)

    def _boxes(self, draws: Tensor, height: int, width: int) -> Tensor:
        # Rounding a side near half a pixel must not depend on the device, hence float64 where the device has it.
        draws = draws.to(torch.float32 if draws.device.type == "mps" else torch.float64)
        heights, widths = self._tries(draws[:, :_TRIES], draws[:, _TRIES : 2 * _TRIES], height, width)
        fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
        first = fits.to(torch.int64).argmax(1, keepdim=True)
        central_height, central_width = self._central(height, width)
        any_fits = fits.any(1)
        box_height = heights.gather(1, first)[:, 0].where(any_fits, central_height)
        box_width = widths.gather(1, first)[:, 0].where(any_fits, central_width)
        room_above, room_left = height - box_height, width - box_width
        top = (draws[:, 2 * _TRIES] * (room_above + 1)).floor().minimum(room_above)
        left = (draws[:, 2 * _TRIES + 1] * (room_left + 1)).floor().minimum(room_left)
        top = top.where(any_fits, (height - central_height) // 2)
        left = left.where(any_fits, (width - central_width) // 2)
        return torch.stack((top, left, box_height, box_width), 1).to(torch.int64)

    def _tries(self, area: Tensor, ratio: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Heights and widths, whole numbers, of the boxes of all tries."""
        smallest, largest = self.crop_scale
        areas = height * width * (smallest + (largest - smallest) * area)
        low, high = (math.log(bound) for bound in self.crop_ratio)
        ratios = (low + (high - low) * ratio).exp()
        return (areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()

    def _central(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the box for an image in which no try fits."""
        low, high = self.crop_ratio
        if width / height < low:
            return max(1, round(width / low)), width
        if width / height > high:
            return height, max(1, round(height * high))
        return height, width


def resize_boxes(
    images: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"],
    boxes: Int[Tensor, "b 4"],
    flip: Bool[Tensor, " b"],
    size: int,
) -> Float[Tensor, "b c {size} {size}"]:
    """Resize each image from its own box to a square, bilinear with antialiasing.

    Two matrix products per image resize the whole batch at once, without a synchronisation of host and device.

    Args:
        images: uint8, or floats in [0, 1].
        boxes: top, left, height and width of each box, in pixels.
        flip: which results are mirrored left to right.
        size: side of the result in pixels.
    """
    rows = _triangle_weights(boxes[:, 0], boxes[:, 2], torch.zeros_like(flip), size, images.shape[2])
    columns = _triangle_weights(boxes[:, 1], boxes[:, 3], flip, size, images.shape[3])
    return separable(rows, to_float(images), columns).clamp_(0, 1)


def to_float(images: UInt8[Tensor, "*b"] | Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """A float32 copy with values in [0, 1]."""
    return images / 255 if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)


def _resize_box(image: Tensor, box: list[int], flip: bool, size: int) -> Tensor:
    """Resize one box to rounded uint8 values, as Pillow does.

    torch's kernel is fast if the channels come last, as in image files; numpy copies whole rows of the box.
    """
    top, left, height, width = box
    pixels = image.permute(1, 2, 0).numpy()[top : top + height, left : left + width]
    inside = torch.from_numpy(np.ascontiguousarray(pixels)).view(1, height, width, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(inside, (size, size), mode="bilinear", antialias=True)[0]
    return resized.flip(-1) if flip else resized


def _triangle_weights(start: Tensor, length: Tensor, mirrored: Tensor, size: int, count: int) -> Tensor:
    """Triangle filter: weights (b, size, count) of `count` pixels for `size` results.

    The results divide the interval ``[start, start + length)`` into equal parts.

    The weights of a result fall linearly from its centre to zero at a distance of one step. A step is the spacing of
    the results or one pixel, whichever is larger. Pixels outside the box have weight zero.
    """
    result = torch.arange(size, device=start.device, dtype=torch.float32)
    result = torch.where(mirrored[:, None], size - 1 - result, result)
    pitch = (length / size)[:, None]
    centre = (pitch * (result + 0.5))[:, :, None]
    place = torch.arange(count, device=start.device) - start[:, None]
    inside = (place >= 0) & (place < length[:, None])
    distance = (place[:, None] - centre).add_(0.5).abs_()
    weights = (1 - distance / pitch.clamp_min(1)[:, :, None]).clamp_min_(0).mul_(inside[:, None])
    return weights / weights.sum(2, keepdim=True)
