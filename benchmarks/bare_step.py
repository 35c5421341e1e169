"""The floor of a training step: the encoder alone, forward, backward and optimiser, on views already in memory."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from contrast.methods import ContrastiveMethod, MoCo
from contrast.models import momentum_copy, update_momentum
from contrast.optim import parameter_groups

__all__ = ["BareStep"]


class BareStep:
    """Steps of a method's backbone and head, and of MoCo's key encoder, without anything around them.

    Args:
        method: whose networks are copied.
        views: two batches, standardised, in the layout that is fastest.
    """

    def __init__(self, method: ContrastiveMethod, views: tuple[Tensor, Tensor]) -> None:
        self._encoder = nn.Sequential(copy.deepcopy(method.backbone), copy.deepcopy(method.head))
        self._key_encoder = momentum_copy(self._encoder) if isinstance(method, MoCo) else None
        self._views = views
        self._optimizer = torch.optim.SGD(parameter_groups(self._encoder), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            loss = self._step()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()

    def _step(self) -> Tensor:
        first, second = self._views
        if self._key_encoder is None:
            return self._encoder(first).square().mean() + self._encoder(second).square().mean()
        query = self._encoder(first)
        update_momentum(self._encoder, self._key_encoder, 0.99)
        with torch.no_grad():
            key = self._key_encoder(second)
        return (query - key).square().mean()
