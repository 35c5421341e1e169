"""Numbers as series: float32 (channel, step), none of them missing, at whatever steps they are wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from contrast.errors import InputError

__all__ = ["at_positions", "resample", "to_series"]


def to_series(values: Any) -> Float32[Tensor, "c t"]:
    """Numbers (channel, step), or (step,) of a single channel, as float32.

    Args:
        values: a numpy array or a tensor of integers or floats.

    Raises:
        InputError: for anything else, for no steps, and for NaN or infinity, naming the channel.

    Example:
        >>> to_series(np.array([1, 2, 3])).tolist()
        [[1.0, 2.0, 3.0]]
    """
    array = values.numpy(force=True) if isinstance(values, Tensor) else values
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        what = f"{array.dtype}" if isinstance(array, np.ndarray) else type(values).__name__
        raise InputError(f"a series of type {what}: give a numpy array or a tensor of numbers, (channel, step)")
    if array.ndim not in (1, 2) or not array.size:
        raise InputError(f"a series of shape {array.shape}: give (channel, step), or (step,) of one channel")
    with np.errstate(over="ignore"):  # becomes infinity, which is refused
        series = torch.from_numpy(np.atleast_2d(array).astype(np.float32))
    bad = ~torch.isfinite(series)
    if bool(bad.any()):
        channel, step = bad.nonzero()[0].tolist()
        raise InputError(
            f"channel {channel} is {float(series[channel, step])} at step {step}: fill what is missing, or leave the "
            "series out"
        )
    return series


def resample(series: Float[Tensor, "c t"], steps: int) -> Float[Tensor, "c {steps}"]:
    """The series at `steps` places, evenly from its first step to its last, on straight lines between its steps.

    Example:
        >>> resample(torch.tensor([[0.0, 2.0]]), 3).tolist()
        [[0.0, 1.0, 2.0]]
    """
    places = torch.linspace(0, series.shape[1] - 1, steps, dtype=torch.float64)
    return at_positions(series[None], places[None])[0]


def at_positions(series: Float[Tensor, "b c t"], positions: Float[Tensor, "b steps"]) -> Float[Tensor, "b c steps"]:
    """Values of each series at positions of its own, in steps from 0 to t − 1, on straight lines between steps."""
    last = series.shape[2] - 1
    before = positions.floor().clamp(0, last)
    share = (positions - before)[:, None].to(series.dtype)
    first = before.long()[:, None].expand(-1, series.shape[1], -1)
    left, right = series.gather(2, first), series.gather(2, (first + 1).clamp_max(last))
    return left + share * (right - left)
