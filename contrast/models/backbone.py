"""Base class of backbones: encoders that turn images or time series into features."""

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
    """Encoder from images or time series to features.

    The backbone is kept after pretraining; the projection head is dropped.

    Args:
        width: number of features per sample.
        channels: number of channels per sample. Colour images have 3, grey images 1.
        image_size: height and width in pixels of the images that the backbone is meant for. None means any size; series
            backbones use None.

    Attributes:
        axes: number of axes per sample, without the channel axis: 2 for images, 1 for series.

    Raises:
        InputError: if an argument is below 1.
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
        """Compute the features, (b, self.width), of standardised samples."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Description of the network as a JSON-compatible dictionary.

        The keys are library, architecture, stem, width, channels, image_size (images only), class_path, init_args,
        rebuild and rebuild_needs. A configuration can build the network from `class_path` and `init_args`. `rebuild` is
        Python code that builds the network, without this package where the library is enough. That code reads the
        exported weights from ``state`` and leaves the network in ``net``. `rebuild_needs` names the package that the
        code imports.
        """

    @property
    def plain_module(self) -> nn.Module:
        """Module whose parameters have the library's own names: the backbone itself, unless it wraps another module."""
        return self

    def plain_state_dict(self) -> dict[str, Tensor]:
        """State dict for export, under the library's own parameter names. Its tensors share memory with the network."""
        return dict(self.plain_module.state_dict())

    def _card(
        self, library: str, architecture: str, stem: str | None, init_args: Mapping[str, Any], rebuild: list[str]
    ) -> dict[str, Any]:
        ours = type(self).__module__.startswith("contrast.models.")  # the short path, as configurations have it
        return {
            "library": library,
            "architecture": architecture,
            "stem": stem,
            "width": self.width,
            "channels": self.channels,
            **({} if self.image_size is None else {"image_size": self.image_size}),
            "class_path": f"{'contrast.models' if ours else type(self).__module__}.{type(self).__qualname__}",
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
    """Raise an error if a backbone does not accept samples of this shape.

    Args:
        backbone: any backbone.
        input_shape: shape of one sample, channels first.
        fix: text for the error message: the setting to change if the channels differ.

    Raises:
        InputError: if the sample has another number of axes or channels than the backbone expects.
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
