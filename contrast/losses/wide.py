"""The precision that scores and sums are taken in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["wide"]


def wide(rows: Tensor) -> Tensor:
    """At least float32, whatever autocast chose: scores and sums are never taken in half precision."""
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
