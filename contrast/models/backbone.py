"""The encoder that pretraining is for: from images or series to features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from contrast.checks import checked, require_positive
from contrast.errors import InputError

__all__ = ["Backbone", "require_fitting"]


class Backbone(nn.Module, ABC):
    """Images or series to features; kept after pretraining, where the head is dropped.

    Args:
        width: features a sample.
        channels: channels of a sample: of images 3 for colour, 1 for grey.
        image_size: height and width of the images it is meant for, in pixels; None for any, and for series.

    Attributes:
        axes: axes of a sample besides its channels: 2 for images, 1 for series.

    Raises:
        InputError: where one of them is below 1.
    """

    axes: ClassVar[int] = 2

    @checked
    def __init__(self, width: int, channels: int, image_size: int | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        self.width = require_positive(name, "width", width)
        self.channels = require_positive(name, "channels", channels)
        self.image_size = image_size if image_size is None else require_positive(name, "image_size", image_size)

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d"]:
        """Features of standardised samples, (b, self.width)."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The network's card, as JSON: library, architecture, stem, width, channels, image_size (not of series).

        `class_path` and `init_args` make it from a configuration. `rebuild` is Python that makes it, without this
        package where the library can: it ends in ``net``, given the exported ``state``; `rebuild_needs` names the
        package that it imports.
        """

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
            **({} if self.image_size is None else {"image_size": self.image_size}),
            "class_path": f"contrast.models.{type(self).__name__}",
            "init_args": dict(init_args),
            "rebuild": "\n".join([*rebuild, "net.load_state_dict(state)"]),
            "rebuild_needs": "contrast" if any("contrast" in line for line in rebuild) else library,
        }


@checked
def require_fitting(
    backbone: Backbone,
    input_shape: tuple[int, ...],
    fix: str = "set --model.backbone.channels or --data.channels",
) -> None:
    """Refuse a backbone that takes other samples than these.

    Args:
        backbone: any.
        input_shape: of a sample, channels first.
        fix: what to do where the channels differ.

    Raises:
        InputError: where the sample has other axes or channels.
    """
    name, channels, axes = type(backbone).__name__, input_shape[0], len(input_shape) - 1
    if axes != backbone.axes:
        kinds = {1: "series", 2: "images"}
        raise InputError(
            f"{name} takes {kinds.get(backbone.axes, 'samples of other axes')}, and the data are "
            f"{kinds.get(axes, 'samples of other axes')}: give another --model.backbone"
        )
    if channels != backbone.channels:
        raise InputError(f"{name} takes {backbone.channels} channels and the data have {channels}: {fix}")
