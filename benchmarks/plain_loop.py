"""A training loop with nothing but what a step needs: loader, loss, backward, optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

__all__ = ["Images", "PlainLoop"]


class Images(Dataset[Any]):
    """Images in memory as torchvision's CIFAR-10 hands them out: a Pillow image and its label.

    Args:
        images: uint8, (n, height, width, 3).
        transform: of the Pillow image; None leaves it.
    """

    def __init__(self, images: np.ndarray[Any, Any], transform: Callable[[Any], Any] | None = None) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self._images[index])
        return (image if self._transform is None else self._transform(image)), 0


class PlainLoop:
    """Steps of a peer's model, views made by two workers.

    Args:
        network: what is trained, by the SGD that our runs have.
        dataset: samples as the peer makes them.
        batch_size: images a step.
        loss: of a batch.
    """

    def __init__(self, network: nn.Module, dataset: Dataset[Any], batch_size: int, loss: Callable[[Any], Tensor]):
        self._loss = loss
        self._loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, num_workers=2)
        self._optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        self._batches: Any = None
        self._endless = self._without_end()

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            self._loss(next(self._endless)).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()

    def workers(self) -> list[int]:
        """The loader's processes, once there are any."""
        return [] if self._batches is None else [each.pid for each in self._batches._workers]

    def _without_end(self) -> Iterator[Any]:
        while True:
            self._batches = iter(self._loader)
            yield from self._batches
