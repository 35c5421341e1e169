"""The colour changes, one amount an image; each result is clamped to [0, 1].

Equal to torchvision's functions of the same names on float images. A grey image has one channel: its saturation, hue
and greyness cannot change.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["BRIGHTNESS", "CONTRAST", "HUE", "SATURATION", "Shares", "adjust_hue", "blend_", "shares", "to_grey"]

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


class Shares(NamedTuple):
    """What a blend consists of, for each image."""

    image: Float[Tensor, "*b"]
    grey: Float[Tensor, "*b"]
    mean: Float[Tensor, "*b"]


def shares(number: Int[Tensor, "*b"], factor: Float[Tensor, "*b"]) -> Shares:
    """The blend that an adjustment is: ``factor · image + (1 - factor) · other``.

    The other is black for `BRIGHTNESS`, the mean of the grey image for `CONTRAST`, the grey image for `SATURATION`. For
    any other number it is the image alone, which a blend leaves as it is to the bit.
    """
    rest = 1 - factor
    return Shares(factor.where(number < HUE, 1.0), rest * (number == SATURATION), rest * (number == CONTRAST))


def blend_(images: Float[Tensor, "b c h w"], share: Shares) -> Float[Tensor, "b c h w"]:
    """``share · image + share · its grey image + share · the mean of that``, in place."""
    image, grey, mean = (numbers[:, None, None, None] for numbers in share)
    other = _luminance(images)
    mean = mean * other.mean((1, 2, 3), keepdim=True)
    return torch.addcmul(other.mul_(grey).add_(mean), images, image, out=images).clamp_(0, 1)


def adjust_hue(images: Float[Tensor, "b c h w"], shift: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Turn the hue of HSV by `shift`, in turns from -0.5 to 0.5; value and saturation stay.

    With value v, chroma c = max - min and hue u in sixths of a turn from -3 to 3, red is
    ``v - c · clamp(|u| - 1, 0, 1)``. Green and blue are ``v - c + c · clamp(|u ± 1| - 1, 0, 1)``: what is least green
    has the hue -1, what is least blue 1.
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
    """The luminance 0.2989 R + 0.587 G + 0.114 B in every channel."""
    return images if images.shape[1] == 1 else _luminance(images).expand_as(images)


def _luminance(images: Tensor) -> Tensor:
    """One channel, in memory of its own."""
    if images.shape[1] == 1:
        return images.clone()
    red, green, blue = images.unbind(1)
    return (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)[:, None]


def _hue(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """The hue in sixths of a turn, from -3 to 3: red is 0, green 2, blue -2.

    With a = |G - B| / c and m = (v - R) / c its amount is ``a + m (3 - 2 a)``: a where red is largest (m = 0), 1 + m
    where it is in the middle (a = 1), 3 - a where it is least (m = 1). Its sign is that of G - B. No branch is taken,
    which a CPU takes ten times as long for as for arithmetic.
    """
    by_chroma = chroma.clamp_min(1e-12).reciprocal_()
    difference = green - blue
    across = difference.abs().mul_(by_chroma)
    below = torch.sub(value, red).mul_(by_chroma)
    return torch.addcmul(across, below, (across * -2).add_(3)).copysign_(difference)


def _ramp_(distance: Tensor) -> Tensor:
    return distance.sub_(1).clamp_(0, 1)
