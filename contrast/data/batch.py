"""A batch of samples with their indices, and how a loader collates it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from contrast.errors import InputError

__all__ = ["Batch", "LabelledBatch", "collate_labelled", "collate_training"]


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


def collate_training(samples: Sequence[tuple[Tensor, int]] | Batch) -> Batch:
    if isinstance(samples, Batch):  # the data set had them in one piece
        return samples
    return Batch(_stack([sample for sample, _ in samples]), torch.tensor([index for _, index in samples]))


def collate_labelled(samples: Sequence[tuple[Tensor, int, int]]) -> LabelledBatch:
    inputs, index, label = zip(*samples, strict=True)
    return LabelledBatch(_stack(inputs), torch.tensor(index), torch.tensor(label))


def _stack(inputs: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(each.shape) for each in inputs}
    if len(shapes) > 1:  # of images alone: series are brought to one length where they are read
        small, large = min(shapes), max(shapes)
        raise InputError(
            f"images differ in size, {small[-1]}x{small[-2]} and {large[-1]}x{large[-2]} pixels among them: set "
            "data.views_in to workers, so that they are cropped before they are batched"
        )
    return torch.stack(list(inputs))
