"""SimCLR as lightly's documentation has it: its transform in a loader's workers, its head and loss, a plain loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from contrast.models import Backbone

__all__ = ["LightlyRun"]


class _Images(Dataset[Any]):
    """Images in memory, as torchvision's CIFAR-10 hands them out."""

    def __init__(self, images: np.ndarray[Any, Any], transform: SimCLRTransform) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        return self._transform(Image.fromarray(self._images[index])), 0


class _SimCLR(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimCLRProjectionHead(backbone.width, backbone.width, 128)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.projection_head(self.backbone(images).flatten(start_dim=1))
        return embeddings


class LightlyRun:
    """Steps of lightly's SimCLR.

    Args:
        backbone: the encoder, its own copy.
        images: uint8, (n, 32, 32, 3).
        batch_size: images a step.
        channels_last: the network and its input in that layout, which lightly's documentation does not have.
    """

    def __init__(self, backbone: Backbone, images: np.ndarray[Any, Any], batch_size: int, channels_last: bool) -> None:
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._model = _SimCLR(backbone).to(memory_format=self._layout)
        transform = SimCLRTransform(input_size=images.shape[1], cj_strength=0.5, gaussian_blur=0.0)
        self._loader = DataLoader(
            _Images(images, transform), batch_size=batch_size, shuffle=True, drop_last=True, num_workers=2
        )
        self._criterion = NTXentLoss(temperature=0.5)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self._batches: Any = None
        self._epochs = self._without_end()

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            views = next(self._epochs)[0]
            first, second = (self._model(view.contiguous(memory_format=self._layout)) for view in views)
            loss = self._criterion(first, second)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()

    def workers(self) -> list[int]:
        """The loader's processes, once there are any."""
        return [] if self._batches is None else [each.pid for each in self._batches._workers]

    def _without_end(self) -> Iterator[Any]:
        while True:
            self._batches = iter(self._loader)
            yield from self._batches
