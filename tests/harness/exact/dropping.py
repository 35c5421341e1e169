"""A backbone that draws from torch's own generator at every step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from contrast.models import Backbone

__all__ = ["Dropping"]


class Dropping(Backbone):
    """Two layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__(8, channels=1, image_size=8)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 8))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features

    def describe(self) -> dict[str, Any]:
        return {"library": "tests", "architecture": "dropping"}
