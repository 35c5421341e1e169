"""Numbers as series: (channel, step), none of them missing, in float32 or float64, at whatever steps are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from contrast.data.sources import Content
from contrast.errors import InputError

__all__ = ["LOOKED_AT", "at_positions", "offset_of", "resample", "series_content", "to_series"]


_ROUNDED = 1e-3
"""Share of a channel's deviation that rounding to float32 may change: above it a series stays float64."""
LOOKED_AT = 64
"""Series of a training set from which an offset is taken."""


def to_series(values: Any) -> Float[Tensor, "c t"]:
    """Numbers (channel, step), or (step,) of a single channel, as float32.

    A series with a large offset, say a latitude that changes by 1e-6, stays float64: float32 would round its changes
    away before they are standardised.

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
    exact = torch.from_numpy(np.atleast_2d(array).astype(np.float64))
    bad = ~torch.isfinite(series)
    if bool(bad.any()):
        channel, step = bad.nonzero()[0].tolist()
        raise InputError(
            f"channel {channel} is {float(series[channel, step])} at step {step}: fill what is missing, or leave the "
            "series out"
        )
    lost = (series.double() - exact).abs().amax(1) > _ROUNDED * exact.std(1, correction=0)
    return exact if bool(lost.any()) else series


def offset_of(series: Sequence[Float[Tensor, "c _"]]) -> Float64[Tensor, " c"]:
    """What to subtract in float64 before series become float32: 0, or of series that float32 would round, their mean.

    Args:
        series: the first series of a training set, as `to_series` gives them.
    """
    if all(each.dtype == torch.float32 for each in series):
        return torch.zeros(len(series[0]), dtype=torch.float64)
    return torch.stack([each.double().mean(1) for each in series]).mean(0)


def series_content(series: Sequence[Tensor], index: Sequence[int]) -> Content:
    """All bytes of these series, each after its shape: what stands for their content in a checksum."""
    chosen = (series[place] for place in index)
    parts = (part for each in chosen for part in (f"{tuple(each.shape)}\n".encode(), each.contiguous().numpy()))
    return Content("all bytes of the series", parts)


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
