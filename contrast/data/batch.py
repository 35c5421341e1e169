"""Batches of samples with their indices, and the collate functions of the loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from contrast.errors import InputError

__all__ = ["Batch", "LabelledBatch", "collate_labelled", "collate_training"]


class Batch(NamedTuple):
    """A training batch. It has no labels, so a loss cannot see them.

    Attributes:
        inputs: uint8 images (b, c, h, w) from the loader. Later, when the data module has made the views on the device,
            a tuple of float views, each (b, c, size, size).
        index: index of each sample in the training set, (b,) int64.
    """

    inputs: Tensor | tuple[Tensor, ...]
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on a batch


class LabelledBatch(NamedTuple):
    """A labelled batch for evaluation and for observers.

    Attributes:
        inputs: samples, (b, c, ...).
        index: sample indices, (b,) int64.
        label: class labels, (b,) int64.
    """

    inputs: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on a batch
    label: Tensor


def collate_training(samples: Sequence[tuple[Tensor, int]] | Batch) -> Batch:
    """Collate training samples (sample, index) to a `Batch`; a batch made by the data set is returned unchanged.

    Raises:
        InputError: if the samples differ in shape.
    """
    if isinstance(samples, Batch):  # the data set returned a whole batch
        return samples
    return Batch(_stack([sample for sample, _ in samples]), torch.tensor([index for _, index in samples]))


def collate_labelled(samples: Sequence[tuple[Tensor, int, int]]) -> LabelledBatch:
    """Collate samples (sample, index, label) to a `LabelledBatch`.

    Raises:
        InputError: if the samples differ in shape.
    """
    inputs, index, label = zip(*samples, strict=True)
    return LabelledBatch(_stack(inputs), torch.tensor(index), torch.tensor(label))


def _stack(inputs: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(each.shape) for each in inputs}
    if len(shapes) > 1:  # only for images: series get one length when they are read
        small, large = min(shapes), max(shapes)
        raise InputError(
            f"images of a batch differ in size, for example {small[-1]}x{small[-2]} and {large[-1]}x{large[-2]} "
            "pixels: set data.views_in to workers, which crop images before batching"
        )
    return torch.stack(list(inputs))
