"""What a loader yields. NamedTuples, since Lightning refuses to move frozen dataclasses between devices."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Batch", "LabelledBatch"]


class Batch(NamedTuple):
    """One training batch. It has no label: a loss cannot see one.

    Attributes:
        inputs: uint8 images (b, c, h, w) as they leave the loader; a tuple of float views, each (b, c, size, size),
            once the data module has made them on the device.
        index: which training sample each row is, (b,) int64.
    """

    inputs: Tensor | tuple[Tensor, ...]
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on a batch


class LabelledBatch(NamedTuple):
    """One batch for evaluation and for observers: images, sample indices (b,) and class labels (b,), both int64."""

    inputs: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on a batch
    label: Tensor
