"""One matrix for the rows and one for the columns of every image: what a resize and a blur both are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["banded", "full_precision", "separable"]


_STRIP = 32


def separable(
    rows: Float[Tensor, "b y h"], images: Float[Tensor, "b c h w"], columns: Float[Tensor, "b x w"]
) -> Float[Tensor, "b c y x"]:
    """Apply to every image its own two matrices, ``rows @ image @ columns.T``."""
    with full_precision(images.device):
        narrow = (images.flatten(1, 2) @ columns.mT).reshape(*images.shape[:3], -1)
        wide: Tensor = rows[:, None] @ narrow
        return wide


def banded(
    rows: Float[Tensor, "b h h"], images: Float[Tensor, "b c h w"], columns: Float[Tensor, "b w w"], radius: int
) -> Float[Tensor, "b c h w"]:
    """`separable` for matrices that are zero further than `radius` from the diagonal: strip by strip of the result."""
    with full_precision(images.device):
        flat = images.flatten(1, 2)
        strips = [flat[..., reach] @ columns[:, strip, reach].mT for strip, reach in _strips(images.shape[3], radius)]
        narrow = torch.cat(strips, 2).reshape(images.shape)
        return torch.cat(
            [rows[:, None, strip, reach] @ narrow[:, :, reach] for strip, reach in _strips(images.shape[2], radius)], 2
        )


def _strips(length: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Places of a result, and those that they are made of."""
    for first in range(0, length, _STRIP):
        last = min(first + _STRIP, length)
        yield slice(first, last), slice(max(0, first - radius), min(length, last + radius))


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in whole float32 for as long as the block lasts.

    Neither autocast nor a reduced precision chosen for the network's products may reach a view: TF32 loses a tenth of a
    grey level, bfloat16 a whole one.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]  # set at import
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
