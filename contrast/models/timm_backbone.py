"""Any timm network as a backbone."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.checks import checked, require_positive
from contrast.errors import InputError
from contrast.models.backbone import Backbone
from contrast.models.weights import load_weights

__all__ = ["Timm"]


class Timm(Backbone):
    """timm network without its classifier (``num_classes=0``): convolutional networks, vision transformers and others.

    Nothing is ever downloaded: the network starts from random weights or from a file. timm models with a fixed input
    size are built for `image_size`; the others accept any size.

    Args:
        name: timm's name of the architecture, without the tag of a set of weights: resnet18, vit_tiny_patch16_224.
        image_size: height and width of the images, in pixels.
        channels: channels of the images.
        weights: a file for `load_weights`. None starts from random weights.
        weights_prefix: prefix of the network's parameter names in that file. None searches for the prefix.

    Raises:
        InputError: if timm is not installed, does not know the name, or the architecture cannot take this size.
    """

    @checked
    def __init__(
        self,
        name: str,
        image_size: int = 224,
        channels: int = 3,
        weights: str | Path | None = None,
        weights_prefix: str | None = None,
    ) -> None:
        timm = _timm()
        known = timm.list_models()
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.5))
            raise InputError(f"timm has no model {name!r}; near names: {near or 'none, see timm.list_models()'}")
        for argument, value in (("image_size", image_size), ("channels", channels)):
            require_positive("Timm", argument, value)
        settings: dict[str, Any] = {"num_classes": 0, "in_chans": channels}
        defaults = timm.models.get_pretrained_cfg(name)
        if defaults is not None and defaults.fixed_input_size and image_size != defaults.input_size[-1]:
            settings["img_size"] = image_size
        super().__init__(_feature_width(timm, name, settings, image_size), channels, image_size)
        self.name, self.settings = name, settings
        self.network: nn.Module = timm.create_model(name, pretrained=False, **settings)
        if weights is not None:
            load_weights(self, weights, prefix=weights_prefix)

    @property
    def plain_module(self) -> nn.Module:
        return self.network

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b d"]:
        features: Tensor = self.network(images)
        return features

    def describe(self) -> dict[str, Any]:
        arguments = {"name": self.name, "image_size": self.image_size, "channels": self.channels}
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        rebuild = ["import timm", f"net = timm.create_model({self.name!r}, {settings})"]
        return self._card("timm", self.name, None, arguments, rebuild)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise InputError("timm is not installed: pip install contrast[timm]") from None
    module: ModuleType = timm
    return module


def _feature_width(timm: ModuleType, name: str, settings: dict[str, Any], image_size: int) -> int:
    """Width of the features, by a forward pass on the meta device, which computes only shapes.

    No attribute of timm's models gives the width for all of them. The forward pass also finds the sizes that an
    architecture cannot take: most architectures check the size only in their first forward pass.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            network = timm.create_model(name, pretrained=False, **settings).eval()
            features = network(torch.zeros(1, settings["in_chans"], image_size, image_size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"timm's {name!r} cannot take image_size {image_size}: {reason}") from error
    return int(features.shape[1])
