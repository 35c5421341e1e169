"""Colour jitter and grayscale.

The results equal those of torchvision's functions on float images. A grey image has one channel: changes of saturation
and hue, and grayscale, leave it unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from contrast.checks import check_at_least, check_between, checked_fields
from contrast.data import _loops as compiled_colour
from contrast.data.views.step import OnCpu, Step, apply_where

__all__ = [
    "BRIGHTNESS",
    "CONTRAST",
    "HUE",
    "SATURATION",
    "ColourJitter",
    "JitterParameters",
    "RandomGrey",
    "Shares",
    "adjust_hue",
    "blend_",
    "shares",
    "to_grey",
]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Shares(NamedTuple):
    """Coefficients of a blend, one of each per image.

    Attributes:
        image: factor of the image.
        grey: factor of the grey image.
        mean: factor of the grey image's mean.
    """

    image: Float[Tensor, "*b"]
    grey: Float[Tensor, "*b"]
    mean: Float[Tensor, "*b"]


def shares(number: Int[Tensor, "*b"], factor: Float[Tensor, "*b"]) -> Shares:
    """Coefficients of the blend ``factor · image + (1 - factor) · other`` that makes a colour adjustment.

    The other image is black for `BRIGHTNESS`, the mean of the grey image for `CONTRAST`, and the grey image for
    `SATURATION`. For any other number, the blend is the image itself, bit for bit.

    Args:
        number: number of the adjustment.
        factor: factor of the adjustment, of the same shape as `number`.
    """
    rest = 1 - factor
    return Shares(factor.where(number < HUE, 1.0), rest * (number == SATURATION), rest * (number == CONTRAST))


def blend_(images: Float[Tensor, "b c h w"], share: Shares) -> Float[Tensor, "b c h w"]:
    """Blend in place: ``share.image · image + share.grey · grey image + share.mean · mean of the grey image``."""
    image, grey, mean = (numbers[:, None, None, None] for numbers in share)
    other = _luminance(images)
    mean = mean * other.mean((1, 2, 3), keepdim=True)
    return torch.addcmul(other.mul_(grey).add_(mean), images, image, out=images).clamp_(0, 1)


def adjust_hue(images: Float[Tensor, "b c h w"], shift: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Rotate the hue of HSV by `shift` turns; value and saturation stay the same.

    With value v, chroma c = max - min and hue u in sixths of a turn from -3 to 3, red is ``v - c · clamp(|u| - 1, 0,
    1)``. Green and blue are ``v - c + c · clamp(|u ± 1| - 1, 0, 1)``: green is least at hue -1, blue is least at hue 1.

    Args:
        images: values in [0, 1].
        shift: rotation of each image, in turns from -0.5 to 0.5.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    hue = _hue(red, green, blue, value, chroma).add_(6 * shift[:, None, None])
    hue.sub_((hue * (1 / 6)).round_(), alpha=6)
    least, turned = value - chroma, torch.empty_like(images)
    torch.addcmul(value, chroma, _ramp_(hue.abs()), value=-1, out=turned[:, 0])
    torch.addcmul(least, chroma, _ramp_((hue + 1).abs_()), out=turned[:, 1])
    torch.addcmul(least, chroma, _ramp_(hue.sub_(1).abs_()), out=turned[:, 2])
    return turned.clamp_(0, 1)


def to_grey(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Grayscale: the luminance 0.2989 R + 0.587 G + 0.114 B in every channel."""
    return images if images.shape[1] == 1 else _luminance(images).expand_as(images)


def _luminance(images: Tensor) -> Tensor:
    """Luminance as one channel, in newly allocated memory."""
    if images.shape[1] == 1:
        return images.clone()
    red, green, blue = images.unbind(1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]


def _hue(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Hue in sixths of a turn, from -3 to 3: red is 0, green 2, blue -2.

    With a = |G - B| / c and m = (v - R) / c, the absolute hue is ``a + m (3 - 2 a)``: a if red is largest (m = 0), 1 +
    m if red is in the middle (a = 1), 3 - a if red is least (m = 1). The sign of the hue is the sign of G - B. The
    formula avoids branches, which take a CPU ten times as long as arithmetic.
    """
    by_chroma = chroma.clamp_min(1e-12).reciprocal_()
    difference = green - blue
    across = difference.abs().mul_(by_chroma)
    below = torch.sub(value, red).mul_(by_chroma)
    return torch.addcmul(across, below, (across * -2).add_(3)).copysign_(difference)


def _ramp_(distance: Tensor) -> Tensor:
    return distance.sub_(1).clamp_(0, 1)


_NONE = HUE + 1  # no adjustment


class JitterParameters(NamedTuple):
    """Random parameters of the colour jitter of each image.

    The adjustments are numbered brightness 0, contrast 1, saturation 2, hue 3.

    Attributes:
        chosen: whether the image is changed, (b,).
        order: adjustments in the order in which they are applied, (b, 4); ``order[:, 0]`` is the first.
        amount: factor or shift of each adjustment, by its number, (b, 4).
    """

    chosen: Bool[Tensor, " b"]
    order: Int[Tensor, "b 4"]
    amount: Float[Tensor, "b 4"]


@checked_fields
@dataclass(frozen=True)
class ColourJitter(Step):
    """Random colour jitter: brightness, contrast, saturation and hue by random amounts, in a random order per image.

    The factors of brightness, contrast and saturation are uniform in ``[max(0, 1 - x), 1 + x]``. The shift of the hue
    is uniform in ``[-x, x]`` turns.

    Args:
        brightness: x of the brightness factor, not negative.
        contrast: x of the contrast factor, not negative.
        saturation: x of the saturation factor, not negative.
        hue: largest shift of the hue, from 0 to 0.5 turns.
        jitter: probability that an image is changed at all.

    Raises:
        InputError: for an argument outside its range.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    jitter: float = 1.0

    # One number for the choice, four for the order, four for the amounts.
    draws: ClassVar[int] = 9

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_at_least(name, getattr(self, name), 0)
        check_between("hue", self.hue, 0, 0.5)
        check_between("jitter", self.jitter, 0, 1)

    def __call__(self, images: Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        chosen, order, amount = self.parameters(draws)
        return apply_where(chosen, _adjust_in_order_, images, order, amount)

    def on_cpu(self, draws: Float[Tensor, "b n"]) -> OnCpu:
        chosen, order, amount = (numbers.numpy() for numbers in self.parameters(draws))

        def change(images: NDArray[np.float32], rows: slice) -> None:
            adjust = compiled_colour.adjust_one if images.shape[1] == 1 else compiled_colour.adjust
            adjust(images, chosen[rows], order[rows], amount[rows])

        return change

    def parameters(self, draws: Float[Tensor, "b n"]) -> JitterParameters:
        """Convert uniform draws to the parameters of the jitter."""
        factors = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        ranges = [*factors, (-self.hue, self.hue)]
        amount = [low + (high - low) * draws[:, 5 + number] for number, (low, high) in enumerate(ranges)]
        return JitterParameters(
            draws[:, 0] < self.jitter, draws[:, 1:5].argsort(dim=1, stable=True), torch.stack(amount, 1)
        )


def _adjust_in_order_(images: Tensor, order: Tensor, amount: Tensor) -> Tensor:
    """Apply the four adjustments to each image in its own order, in seven rounds; the fourth round is hue for all.

    Hue costs as much as the other three adjustments together. Four rounds (first adjustment of all images, second, and
    so on) would compute hue for each image more than once; with seven rounds it is computed once. Before and after the
    fourth round, an image skips the rounds that it does not need.
    """
    hue_place = (order == HUE).to(torch.int64).argmax(1)
    place = hue_place[:, None] + torch.arange(-3, 4, device=order.device)
    takes_part = (place >= 0) & (place < 4)
    number = order.gather(1, place.clamp(0, 3)).where(takes_part, _NONE)
    if images.shape[1] == 1:  # saturation would change a grey image by rounding
        number = number.where(number != SATURATION, _NONE)
    share = shares(number, amount.gather(1, number.clamp_max(HUE)))
    for turn in range(7):
        if turn == 3:
            images = adjust_hue(images, amount[:, HUE])
        else:
            blend_(images, Shares(*(numbers[:, turn] for numbers in share)))
    return images


@checked_fields
@dataclass(frozen=True)
class RandomGrey(Step):
    """Random grayscale: with some probability, the grey image in every channel.

    Args:
        grey: probability of grayscale.

    Raises:
        InputError: if the probability is outside [0, 1].
    """

    grey: float = 0.2

    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_between("grey", self.grey, 0, 1)

    def __call__(self, images: Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return apply_where(self.chosen(draws), to_grey, images)

    def on_cpu(self, draws: Float[Tensor, "b n"]) -> OnCpu:
        chosen = self.chosen(draws).numpy()

        def change(images: NDArray[np.float32], rows: slice) -> None:
            if images.shape[1] > 1:
                compiled_colour.grey(images, chosen[rows])

        return change

    def chosen(self, draws: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
        """Which images become grey."""
        return draws[:, 0] < self.grey
