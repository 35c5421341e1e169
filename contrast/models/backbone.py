"""The encoder that pretraining is for: from images to features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from contrast.models.checks import require_positive

__all__ = ["Backbone"]


class Backbone(nn.Module, ABC):
    """Images to features; kept after pretraining, where the head is dropped.

    Args:
        width: features a sample.
        channels: channels of the images, 3 for colour, 1 for grey.
        image_size: height and width of the images it is meant for, in pixels; None for any.

    Raises:
        InputError: where one of them is below 1.
    """

    def __init__(self, width: int, channels: int, image_size: int | None) -> None:
        super().__init__()
        name = type(self).__name__
        self.width = require_positive(name, "width", width)
        self.channels = require_positive(name, "channels", channels)
        self.image_size = image_size if image_size is None else require_positive(name, "image_size", image_size)

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b d"]:
        """Features of standardised images, (b, self.width)."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The network's card, as JSON: library, architecture, stem, width, channels, image_size; `class_path` and
        `init_args` to have it again from a configuration, `rebuild` to have it again without this package where the
        library can (Python that ends in ``net``, given the exported ``state``)."""

    @property
    def plain_module(self) -> nn.Module:
        """The module whose parameters bear the library's own names; the backbone itself unless it wraps one."""
        return self

    def plain_state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by the library's own names, for export; they share memory with the network."""
        return dict(self.plain_module.state_dict())

    def _card(
        self, library: str, architecture: str, stem: str | None, init_args: Mapping[str, Any], rebuild: list[str]
    ) -> dict[str, Any]:
        return {
            "library": library,
            "architecture": architecture,
            "stem": stem,
            "width": self.width,
            "channels": self.channels,
            "image_size": self.image_size,
            "class_path": f"contrast.models.{type(self).__name__}",
            "init_args": dict(init_args),
            "rebuild": "\n".join([*rebuild, "net.load_state_dict(state)"]),
        }
