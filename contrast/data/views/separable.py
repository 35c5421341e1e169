"""One matrix for the rows and one for the columns of every image: what a resize and a blur both are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["full_precision", "separable"]


def separable(
    rows: Float[Tensor, "b y h"], images: Float[Tensor, "b c h w"], columns: Float[Tensor, "b x w"]
) -> Float[Tensor, "b c y x"]:
    """Apply to every image its own two matrices, ``rows @ image @ columns.T``."""
    with full_precision(images.device):
        narrow = (images.flatten(1, 2) @ columns.mT).reshape(*images.shape[:3], -1)
        return torch.einsum("byh,bchx->bcyx", rows, narrow)


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
