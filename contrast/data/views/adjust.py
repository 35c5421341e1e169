"""The colour changes, one factor an image; each result is clamped to [0, 1].

Equal to torchvision's functions of the same names on float images. A grey image has one channel: its saturation, hue
and greyness cannot change.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["adjust_brightness", "adjust_contrast", "adjust_hue", "adjust_saturation", "to_grey"]


def adjust_brightness(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """``factor · image``: 0 is black, 1 the image."""
    return (images * factor[:, None, None, None]).clamp_(0, 1)


def adjust_contrast(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """``factor · image + (1 - factor) · mean of the grey image``: 0 is an even grey, 1 the image."""
    return _blend(images, to_grey(images)[:, :1].mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation(images: Float[Tensor, "b c h w"], factor: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """``factor · image + (1 - factor) · grey image``: 0 is the grey image, 1 the image."""
    return images if images.shape[1] == 1 else _blend(images, to_grey(images), factor)


def adjust_hue(images: Float[Tensor, "b c h w"], shift: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Turn the hue of HSV by `shift`, in turns from -0.5 to 0.5; value and saturation stay.

    With value v, chroma c = max - min and hue H in turns, a channel whose pure colour stands at hue P is
    ``v - c · clamp(6 |H - P| - 1, 0, 1)``, the distance |H - P| taken round the circle.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    hue = _hue_times_chroma(red, green, blue, value, chroma)
    hue = hue.div_(chroma.clamp_min(1e-12)).add_(shift[:, None, None])
    turned = torch.empty_like(images)
    for channel, pure in enumerate((0, 1 / 3, 2 / 3)):
        distance = hue - pure
        distance.sub_(distance.round()).abs_()
        torch.addcmul(value, chroma, distance.mul_(6).sub_(1).clamp_(0, 1), value=-1, out=turned[:, channel])
    return turned.clamp_(0, 1)


def to_grey(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The luminance 0.2989 R + 0.587 G + 0.114 B in every channel."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    grey = (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    return grey[:, None].expand_as(images)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other, images, factor[:, None, None, None]).clamp_(0, 1)


def _hue_times_chroma(red: Tensor, green: Tensor, blue: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """The hue in turns times the chroma: (G - B) / 6 where red is largest, a third or two thirds further otherwise."""
    # `sign` is 0 where the channel is the largest and 1 elsewhere. As a weight it selects exactly, and on a CPU it
    # takes a tenth of the time that `torch.where` takes.
    if_green = (blue - red).add_(chroma, alpha=2)
    if_blue = (red - green).add_(chroma, alpha=4)
    not_red = torch.lerp(if_green, if_blue, (value - green).sign_())
    return torch.lerp(green - blue, not_red, (value - red).sign_()).mul_(1 / 6)
