"""stable-pretraining's SimCLR: its method with head and loss, its transforms in a loader's workers, a plain loop.

Its Trainer with callbacks and logging is left out, which only makes it faster. The recipe of views is the one that ours
and lightly's have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_pretraining.data import FromTorchDataset, transforms
from stable_pretraining.methods import SimCLR
from torch import Tensor

from benchmarks.plain_loop import Images, PlainLoop
from contrast.models import Backbone

__all__ = ["stable_pretraining_run"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def stable_pretraining_run(backbone: Backbone, images: np.ndarray[Any, Any], batch_size: int) -> PlainLoop:
    """Steps of stable-pretraining's SimCLR.

    Args:
        backbone: the encoder, its own copy.
        images: uint8, (n, size, size, 3).
        batch_size: images a step.
    """
    method = SimCLR(backbone, projector_dims=(backbone.width, 128), temperature=0.5)

    def loss(batch: Any) -> Tensor:
        first, second = batch["views"]
        found: Tensor = method(first["image"], second["image"]).loss
        return found

    two = transforms.MultiViewTransform([_view(images.shape[1]), _view(images.shape[1])])
    return PlainLoop(method, FromTorchDataset(Images(images), ["image", "label"], two), batch_size, loss)


def _view(size: int) -> Any:
    return transforms.Compose(
        transforms.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.ToImage(mean=_MEAN, std=_STD),
    )
