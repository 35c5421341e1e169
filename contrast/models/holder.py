"""What a backbone that holds another one takes from it."""

from __future__ import annotations

from abc import ABC
from typing import Any

from torch import nn

from contrast.models.backbone import Backbone

__all__ = ["Holder"]


class Holder(Backbone, ABC):
    """A backbone that is another one, but for how it computes.

    Args:
        backbone: what is held.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.width, backbone.channels, backbone.image_size)
        self.backbone = backbone

    @property
    def axes(self) -> int:  # type: ignore[override]  # of the class elsewhere, here of what it holds
        return self.backbone.axes

    def describe(self) -> dict[str, Any]:
        return self.backbone.describe()

    @property
    def plain_module(self) -> nn.Module:
        return self.backbone.plain_module
