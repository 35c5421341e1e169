"""One matrix for the rows and one for the columns of every image, and products in whole float32."""

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
        wide: Tensor = rows[:, None] @ narrow
        return wide


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products and convolutions in whole float32 for as long as the block lasts.

    Neither autocast nor a reduced precision chosen for the network's products may reach a view: TF32 loses a tenth of a
    grey level, bfloat16 a whole one.
    """
    of_cuda = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]  # set at import
    of_cpu = (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)  # type: ignore[attr-defined]  # set at import
    backends = (*of_cuda, *of_cpu)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
