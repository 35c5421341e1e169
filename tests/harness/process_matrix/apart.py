"""How far two results are apart, relative to their size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["apart"]

_SMALLEST = 1e-3


def apart(one: Any, other: Any) -> float:
    """The greatest difference anywhere in two results of one structure; infinite where structures differ.

    Of tensors relative to the largest number in the tensor, if that is above 1e-3. Single numbers are losses and what
    is recorded of cosines: differences of numbers of size 1, so that below 1 the difference itself counts.
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _of_tensors(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return (
            max((apart(one[name], other[name]) for name in one), default=0.0)
            if one.keys() == other.keys()
            else math.inf
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = zip(one, other, strict=False)
        return max((apart(*pair) for pair in pairs), default=0.0) if len(one) == len(other) else math.inf
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
        return abs(one - other) / max(abs(one), 1.0)
    return 0.0 if one == other else math.inf


def _of_tensors(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    if not one.numel():
        return 0.0
    if not one.is_floating_point():
        return 0.0 if torch.equal(one, other) else math.inf
    if not torch.equal(one.isnan(), other.isnan()):
        return math.inf
    a, b = (each.double().nan_to_num() for each in (one, other))
    return float((a - b).abs().max() / a.abs().max().clamp(min=_SMALLEST if one.ndim else 1.0))
