"""A frozen encoder: from uint8 images to features, with all that an evaluation must know about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from contrast.errors import InputError

__all__ = ["Encoder", "encode", "fingerprint", "raw_pixels", "standardise", "with_backbone"]


@dataclass(frozen=True, eq=False)
class Encoder:
    """A backbone in evaluation mode and what turns uint8 images into its input.

    Args:
        backbone: standardised images (b, c, size, size) to features (b, width); put into evaluation mode here.
        width: features an image.
        image_size: height and width of the images that it takes, in pixels.
        channels: channels of the images that it takes.
        mean: mean a channel, of pixels scaled to [0, 1].
        std: standard deviation a channel, likewise.
        fingerprint: what `fingerprint` says of the backbone; part of the key of cached features.
        description: what the features are of (architecture, checkpoint, epoch), as JSON; stands in every result.

    Raises:
        InputError: where `mean` or `std` is not one number a channel.
    """

    backbone: nn.Module
    width: int
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    description: dict[str, Any]

    def __post_init__(self) -> None:
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != self.channels:
                raise InputError(f"{name} {numbers} is not one number for each of the {self.channels} channels")
        self.backbone.eval()


def encode(encoder: Encoder, images: UInt8[Tensor, "b c height width"]) -> Float[Tensor, "b d"]:
    """Features of uint8 images, float32 and without a gradient, on the backbone's device.

    Raises:
        InputError: where the images are not of the encoder's size and channels.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> encoder = Encoder(net, 5, 2, 3, (0.5,) * 3, (0.25,) * 3, fingerprint(net), {})
        >>> encode(encoder, torch.zeros(4, 3, 2, 2, dtype=torch.uint8)).shape
        torch.Size([4, 5])
    """
    wanted = (encoder.channels, encoder.image_size, encoder.image_size)
    if tuple(images.shape[1:]) != wanted:
        raise InputError(f"images of {tuple(images.shape[1:])} do not fit an encoder of {wanted}: set the views' size")
    weight = next(encoder.backbone.parameters(), None)
    images = images if weight is None else images.to(weight.device, non_blocking=True)
    # The layout that convolutions prefer, on a CPU and on CUDA; it costs nothing here.
    pixels = images.to(torch.float32, memory_format=torch.channels_last) / 255
    with torch.no_grad():
        features: Tensor = encoder.backbone(standardise(encoder, pixels))
    return features.float()


def standardise(encoder: Encoder, pixels: Float[Tensor, "b c height width"]) -> Float[Tensor, "b c height width"]:
    """(pixels − mean) / std, channel by channel, for pixels in [0, 1]."""
    mean, std = (pixels.new_tensor(numbers).view(1, -1, 1, 1) for numbers in (encoder.mean, encoder.std))
    return (pixels - mean) / std


def fingerprint(module: nn.Module) -> str:
    """sha256 of a module: its structure, and name, type, shape and bytes of all that its state dict holds.

    The structure counts since pooling, strides and activations leave no trace in a state dict.
    """
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def raw_pixels(encoder: Encoder) -> Encoder:
    """The baseline without a network: the standardised pixels that `encoder` would see, flattened."""
    backbone = nn.Flatten()
    return Encoder(
        backbone=backbone,
        width=encoder.channels * encoder.image_size**2,
        image_size=encoder.image_size,
        channels=encoder.channels,
        mean=encoder.mean,
        std=encoder.std,
        fingerprint=fingerprint(backbone),
        description={"architecture": "raw pixels, standardised"},
    )


def with_backbone(encoder: Encoder, backbone: nn.Module, description: dict[str, Any]) -> Encoder:
    """`encoder` with another backbone of the same shape; a freshly built one is the random-initialisation baseline."""
    return replace(encoder, backbone=backbone, fingerprint=fingerprint(backbone), description=description)
