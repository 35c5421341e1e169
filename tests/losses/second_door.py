"""Pairs for the losses beside the formula: one direction of raw rows, and unit rows with labels."""

from __future__ import annotations

import torch
from torch import Tensor

from contrast import Pairs


def one_direction(z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Pairs:
    none = z1.new_zeros((*z1.shape[:-2], 0, z1.shape[-1]))
    index = torch.arange(z1.shape[-2]) if index is None else index
    return Pairs(z1, z2, none, index, index.new_zeros(0))


def raw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)
