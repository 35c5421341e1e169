"""Encoder with its input transform, for evaluation and export."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors.torch import save_file
from torch import Tensor, nn

from contrast.checks import checked
from contrast.data.standardisation import Standardisation
from contrast.errors import InputError
from contrast.evaluation.results import write_json
from contrast.models import Backbone
from contrast.runs.files import whole_file

__all__ = [
    "MOST_VALUES",
    "AreaAverage",
    "Encoder",
    "averaged_shape",
    "encode",
    "export",
    "fingerprint",
    "raw_input",
    "with_backbone",
]

MOST_VALUES = 3072
"""Largest number of values per sample of the raw-input baseline: a colour image of 32 x 32 pixels."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """Backbone in evaluation mode with the transform that turns samples into its input.

    Attributes:
        backbone: maps standardised samples (b, *input_shape) to features (b, width). It is set to evaluation mode here.
        width: features per sample.
        input_shape: shape of a sample, channels first: (channels, height, width) for an image, (channels, steps) for a
            time series.
        standardisation: standardises samples, which are uint8 images or float32 series.
        fingerprint: `fingerprint` of the backbone; part of the key of cached features.
        description: source of the features as JSON (architecture, checkpoint, epoch); written into every result.

    Raises:
        InputError: where the standardisation has another number of channels than `input_shape`.
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


@checked
def encode(
    encoder: Encoder, samples: UInt8[Tensor, "b c height width"] | Float[Tensor, "b c steps"]
) -> Float[Tensor, "b d"]:
    """Compute features of a batch of samples from a loader, float32, without gradients, on the backbone's device.

    Args:
        encoder: backbone and transform.
        samples: uint8 images (b, c, height, width) or float32 series (b, c, steps).

    Returns:
        Features, float32, (b, d).

    Raises:
        InputError: where the samples do not have the encoder's input shape.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> encoder = Encoder(net, 5, (3, 2, 2), Standardisation((0.5,) * 3, (0.25,) * 3), fingerprint(net), {})
        >>> encode(encoder, torch.zeros(4, 3, 2, 2, dtype=torch.uint8)).shape
        torch.Size([4, 5])
    """
    found = tuple(samples.shape[1:])
    if found != encoder.input_shape:
        raise InputError(f"samples of {found} do not fit an encoder of {encoder.input_shape}: check the data section")
    weight = next(encoder.backbone.parameters(), None)
    samples = samples if weight is None else samples.to(weight.device, non_blocking=True)
    with torch.no_grad():
        features: Tensor = encoder.backbone(encoder.standardisation(samples))
    return features.float()


@checked
def fingerprint(module: nn.Module) -> str:
    """Fingerprint of a network's weights and structure: sha256 over its repr and its state dict.

    The hash covers the name, dtype, shape and bytes of each entry of the state dict. The structure is included because
    pooling, strides and activations leave no trace in a state dict.
    """
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@checked
def averaged_shape(shape: Sequence[int], most: int = MOST_VALUES) -> tuple[int, ...]:
    """Largest shape with the same proportions and at most `most` values, for downsampling raw input.

    The number of channels is kept, as long as there is room for at least one value per channel.

    Args:
        shape: shape of a sample, channels first: (channels, height, width) or (channels, steps).
        most: largest number of values; at least 1.

    Example:
        >>> averaged_shape((3, 224, 224)), averaged_shape((1, 28, 28)), averaged_shape((12, 5000))
        ((3, 32, 32), (1, 28, 28), (12, 256))
    """
    channels, *space = shape
    if math.prod(shape) <= most:
        return tuple(shape)
    channels = min(channels, most)
    left = most // channels
    scale = min(1.0, (left / math.prod(space)) ** (1 / len(space)))
    sizes = []
    for place, size in enumerate(space):
        last = place == len(space) - 1
        wanted = size if last else max(1, math.floor(size * scale + 1e-9))  # 224 * (1 / 7) is 31.999...
        sizes.append(min(size, left, wanted))
        left //= sizes[-1]
    return (channels, *sizes)


class AreaAverage(nn.Module):
    """Downsample by average pooling to a smaller shape, and flatten.

    Args:
        shape: output shape before flattening, channels first; from `averaged_shape`.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def extra_repr(self) -> str:
        return str(self.shape)  # part of the fingerprint

    def forward(self, samples: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d"]:
        """Averages, (b, d), one row per sample."""
        channels, *space = self.shape
        if list(samples.shape[2:]) != space:
            whole = samples.contiguous()
            samples = (
                F.adaptive_avg_pool1d(whole, space[0])
                if len(space) == 1
                else F.adaptive_avg_pool2d(whole, (space[0], space[1]))
            )
        if samples.shape[1] != channels:
            samples = F.adaptive_avg_pool1d(samples.flatten(2).transpose(1, 2), channels).transpose(1, 2)
        return samples.flatten(1)


@checked
def raw_input(encoder: Encoder, most: int = MOST_VALUES) -> Encoder:
    """Raw-input baseline, an encoder without a network: the standardised sample that `encoder` would see, flattened.

    Args:
        encoder: supplies input shape and standardisation.
        most: largest number of values per sample. A larger sample is averaged by area, and the description says so.
    """
    shape, smaller = encoder.input_shape, averaged_shape(encoder.input_shape, most)
    backbone = nn.Flatten() if smaller == shape else AreaAverage(smaller)
    averaged = "" if smaller == shape else f", averaged by area from {_times(shape)} to {_times(smaller)}"
    return replace(
        encoder,
        backbone=backbone,
        width=math.prod(smaller),
        fingerprint=fingerprint(backbone),
        description={"architecture": f"raw input, standardised{averaged}"},
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@checked
def with_backbone(encoder: Encoder, backbone: nn.Module, description: dict[str, Any]) -> Encoder:
    """Replace the encoder's backbone by another backbone of the same shape.

    A newly built backbone gives the random-weights baseline.
    """
    return replace(encoder, backbone=backbone, fingerprint=fingerprint(backbone), description=description)


@checked
def export(backbone: Backbone, card: Mapping[str, Any], folder: str | Path) -> Path:
    """Export backbone weights to ``backbone.safetensors`` with a model card, ``card.json``.

    Both files are written atomically and replace files of the same name. A card never lies next to weights of another
    export.

    Args:
        backbone: its ``plain_state_dict`` is written, bit for bit.
        card: information about the weights, as JSON; the backbone's own description is added.
        folder: output folder; created if missing.

    Returns:
        Path of the weights.

    Raises:
        InputError: where a weight is not finite.
    """
    folder = Path(folder)
    weights, about = folder / "backbone.safetensors", folder / "card.json"
    # Clone: safetensors refuses tensors that share memory, and a network may share some.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in backbone.plain_state_dict().items()}
    non_finite = next((name for name, tensor in state.items() if not bool(tensor.isfinite().all())), None)
    if non_finite is not None:
        raise InputError(f"weights {non_finite!r} hold NaN or infinity: export another checkpoint")
    with whole_file(about) as new_card, whole_file(weights) as part:
        save_file(state, part, metadata={"format": "pt"})
        write_json(new_card, {"backbone": backbone.describe(), **card})
        about.unlink(missing_ok=True)  # the old card goes first: a kill leaves no card, or the card of these weights
    return weights
