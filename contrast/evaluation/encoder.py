"""An encoder with its input transform, for evaluation and export."""

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
"""Values of a raw sample as a baseline, at most: a colour image of 32 x 32 pixels."""


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


@checked
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


@checked
def fingerprint(module: nn.Module) -> str:
    """sha256 of a module: its structure, and name, type, shape and bytes of all that its state dict holds.

    The structure counts since pooling, strides and activations leave no trace in a state dict.
    """
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@checked
def averaged_shape(shape: Sequence[int], most: int = MOST_VALUES) -> tuple[int, ...]:
    """The largest shape of the same proportions that holds at most `most` values.

    Channels are kept while one value for each of them fits.

    Args:
        shape: of a sample, channels first: (channels, height, width) or (channels, steps).
        most: values, at least 1.

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
    """Samples averaged by area to a smaller shape, and flattened.

    Args:
        shape: of a result before it is flattened, channels first; from `averaged_shape`.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def extra_repr(self) -> str:
        return str(self.shape)  # part of the fingerprint

    def forward(self, samples: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d"]:
        """The averages, one row a sample."""
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
    """The baseline without a network: the standardised sample that `encoder` would see, flattened.

    Args:
        encoder: gives shape and standardisation.
        most: values a sample; a larger sample is averaged by area to at most these, which the description says.
    """
    shape, smaller = encoder.input_shape, averaged_shape(encoder.input_shape, most)
    backbone = nn.Flatten() if smaller == shape else AreaAverage(smaller)
    said = "" if smaller == shape else f", averaged by area from {_times(shape)} to {_times(smaller)}"
    return replace(
        encoder,
        backbone=backbone,
        width=math.prod(smaller),
        fingerprint=fingerprint(backbone),
        description={"architecture": f"raw input, standardised{said}"},
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@checked
def with_backbone(encoder: Encoder, backbone: nn.Module, description: dict[str, Any]) -> Encoder:
    """`encoder` with another backbone of the same shape; a freshly built one is the random-initialisation baseline."""
    return replace(encoder, backbone=backbone, fingerprint=fingerprint(backbone), description=description)


@checked
def export(backbone: Backbone, card: Mapping[str, Any], folder: str | Path) -> Path:
    """Write ``backbone.safetensors`` and ``card.json``; the weights' path.

    Args:
        backbone: its ``plain_state_dict`` is written, bit for bit.
        card: what is known of the weights, as JSON; the backbone's own description goes in beside it.
        folder: made if missing. Files of the same names are replaced, each whole; no card is ever beside other weights.

    Raises:
        InputError: where a weight is not finite.
    """
    folder = Path(folder)
    weights, about = folder / "backbone.safetensors", folder / "card.json"
    # safetensors refuses tensors that share memory, and a network may well share some.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in backbone.plain_state_dict().items()}
    spoilt = next((name for name, tensor in state.items() if not bool(tensor.isfinite().all())), None)
    if spoilt is not None:
        raise InputError(
            f"weights {spoilt!r} hold NaN or infinity, and are of no use to anybody: export another checkpoint"
        )
    with whole_file(about) as new_card, whole_file(weights) as part:
        save_file(state, part, metadata={"format": "pt"})
        write_json(new_card, {"backbone": backbone.describe(), **card})
        about.unlink(missing_ok=True)  # the new weights come first: a process that is killed leaves no card, or theirs
    return weights
