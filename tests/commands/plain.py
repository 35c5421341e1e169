"""A backbone without norms, which would look at their own process's batch alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from contrast.models import Backbone


class Plain(Backbone):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__(16, channels=1, image_size=8)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 16))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features

    def describe(self) -> dict[str, Any]:
        return {"library": "tests", "architecture": "plain"}
