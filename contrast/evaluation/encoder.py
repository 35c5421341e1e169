"""A frozen encoder: from a data set's samples to features, with all that an evaluation must know about it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from contrast.data.standardisation import Standardisation
from contrast.errors import InputError

__all__ = ["Encoder", "encode", "fingerprint", "raw_input", "with_backbone"]


@dataclass(frozen=True, eq=False)
class Encoder:
    """A backbone in evaluation mode and what turns samples into its input.

    Args:
        backbone: standardised samples (b, *input_shape) to features (b, width); put into evaluation mode here.
        width: features a sample.
        input_shape: of a sample, channels first: (channels, height, width) of an image, (channels, steps) of a series.
        standardisation: of the samples, uint8 images or float32 series.
        fingerprint: what `fingerprint` says of the backbone; part of the key of cached features.
        description: what the features are of (architecture, checkpoint, epoch), as JSON; stands in every result.

    Raises:
        InputError: where the standardisation is of another number of channels.
    """

    backbone: nn.Module
    width: int
    input_shape: tuple[int, ...]
    standardisation: Standardisation
    fingerprint: str
    description: dict[str, Any]

    def __post_init__(self) -> None:
        if self.standardisation.channels != self.input_shape[0]:
            raise InputError(
                f"mean {self.standardisation.mean} is not one number for each of the {self.input_shape[0]} channels"
            )
        self.backbone.eval()


def encode(
    encoder: Encoder, samples: UInt8[Tensor, "b c height width"] | Float[Tensor, "b c steps"]
) -> Float[Tensor, "b d"]:
    """Features of samples as the loader gives them, float32 and without a gradient, on the backbone's device.

    Raises:
        InputError: where the samples are not of the encoder's shape.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> encoder = Encoder(net, 5, (3, 2, 2), Standardisation((0.5,) * 3, (0.25,) * 3), fingerprint(net), {})
        >>> encode(encoder, torch.zeros(4, 3, 2, 2, dtype=torch.uint8)).shape
        torch.Size([4, 5])
    """
    found = tuple(samples.shape[1:])
    if found != encoder.input_shape:
        raise InputError(f"samples of {found} do not fit an encoder of {encoder.input_shape}: check the data's section")
    weight = next(encoder.backbone.parameters(), None)
    samples = samples if weight is None else samples.to(weight.device, non_blocking=True)
    with torch.no_grad():
        features: Tensor = encoder.backbone(encoder.standardisation(samples))
    return features.float()


def fingerprint(module: nn.Module) -> str:
    """sha256 of a module: its structure, and name, type, shape and bytes of all that its state dict holds.

    The structure counts since pooling, strides and activations leave no trace in a state dict.
    """
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def raw_input(encoder: Encoder) -> Encoder:
    """The baseline without a network: the standardised sample that `encoder` would see, flattened."""
    backbone = nn.Flatten()
    return replace(
        encoder,
        backbone=backbone,
        width=math.prod(encoder.input_shape),
        fingerprint=fingerprint(backbone),
        description={"architecture": "raw input, standardised"},
    )


def with_backbone(encoder: Encoder, backbone: nn.Module, description: dict[str, Any]) -> Encoder:
    """`encoder` with another backbone of the same shape; a freshly built one is the random-initialisation baseline."""
    return replace(encoder, backbone=backbone, fingerprint=fingerprint(backbone), description=description)
