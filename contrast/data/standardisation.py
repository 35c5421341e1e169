"""Standardisation of inputs: mean 0 and standard deviation 1 in each channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from contrast.data._loops import PIECE, by_pieces, standardise, standardise_colours
from contrast.errors import InputError

__all__ = ["Standardisation"]


@dataclass(frozen=True)
class Standardisation:
    """Standardise inputs per channel: ``(x − mean) / std``; uint8 values from 0 to 255 are scaled to [0, 1] first.

    Args:
        mean: one number per channel.
        std: one number per channel, above 0.

    Raises:
        InputError: if mean and std differ in length, or a deviation is not above 0.

    Example:
        >>> standardised = Standardisation((1.0,), (2.0,))
        >>> standardised(torch.tensor([[[1.0, 5.0]]])).tolist()
        [[[0.0, 2.0]]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise InputError(f"{len(self.mean)} means and {len(self.std)} deviations: give one of each per channel")
        if min(self.std) <= 0:
            raise InputError(f"data.std {self.std} divides the data: give numbers above 0")

    @classmethod
    def given(cls, mean: Sequence[float], std: Sequence[float], channels: int) -> Standardisation:
        """Standardisation from one number for all channels, or one number per channel."""
        return cls(_per_channel("mean", mean, channels), _per_channel("std", std, channels))

    @classmethod
    def of_configuration(
        cls, mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
    ) -> Standardisation | None:
        """Standardisation from a configuration; None if both are None, to be measured on the training set.

        Raises:
            InputError: if only one of mean and std is given, or the number of values does not match the channels.
        """
        if (mean is None) != (std is None):
            raise InputError("data.mean and data.std go together: give both, or neither to take the training set's")
        return None if mean is None or std is None else cls.given(mean, std, channels)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def __call__(
        self, inputs: UInt8[Tensor, "b c *space"] | Float[Tensor, "b c *space"]
    ) -> Float[Tensor, "b c *space"]:
        """Standardise a batch; uint8 becomes float32, and images are returned in the channels_last layout.

        Args:
            inputs: images or series, (b, c, ...), uint8 or float.
        """
        # Views on a CPU are float32, contiguous and without gradient: compiled loops standardise them.
        plain = inputs.dtype == torch.float32 and inputs.is_contiguous() and not inputs.requires_grad
        if inputs.ndim == 4 and inputs.device.type == "cpu" and plain:
            return self._on_cpu(inputs)
        values = inputs / 255 if inputs.dtype == torch.uint8 else inputs
        shape = (1, -1, *(1,) * (inputs.ndim - 2))
        mean, std = (values.new_tensor(numbers).view(shape) for numbers in (self.mean, self.std))
        # Change the layout last: a CPU computes several times faster on rows of one channel than on channels_last.
        standardised = (values - mean).div_(std)
        return _channels_last(standardised) if inputs.ndim == 4 else standardised.contiguous()

    def _on_cpu(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        laid = torch.empty((count, height, width, channels))
        pixels, out = images.numpy(), laid.numpy()
        mean, std = (np.array(numbers, np.float32) for numbers in (self.mean, self.std))
        rows, change = max(1, PIECE // (height * width)), standardise_colours if channels == 3 else standardise
        by_pieces(count, rows, lambda piece: change(pixels[piece], mean, std, out[piece]))
        return laid.permute(0, 3, 1, 2)

    def undone(self, values: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """Undo the standardisation, up to rounding: ``x · std + mean``."""
        shape = (1, -1, *(1,) * (values.ndim - 2))
        mean, std = (values.new_tensor(numbers).view(shape) for numbers in (self.mean, self.std))
        return values * std + mean


def _channels_last(images: Tensor) -> Tensor:
    """Images in the channels_last layout, which convolutions prefer on a CPU and on CUDA.

    Convolutions choose their layout by the strides. For a single channel, torch treats any strides as channels_last and
    leaves them unchanged; a network of grey images would then use the slower layout from end to end.
    """
    laid = images.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = laid.shape
    return laid.as_strided(laid.shape, (channels * height * width, 1, channels * width, channels))


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise InputError(f"data.{name} has {len(values)} numbers for {channels} channels: give one, or one per channel")
    return tuple(values) if len(values) == channels else tuple(values) * channels
