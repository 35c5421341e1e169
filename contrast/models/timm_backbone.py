"""Any network of timm's as a backbone."""

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
    """A network of timm's without its classifier (``num_classes=0``): convolutional ones, vision transformers, others.

    Nothing is ever downloaded: the network starts at random or from a file. timm's models with an input of fixed size
    are built for `image_size`; the others take any.

    Args:
        name: timm's name of the architecture, without the tag of a set of weights: resnet18, vit_tiny_patch16_224.
        image_size: height and width of the images, in pixels.
        channels: channels of the images.
        weights: a file for `load_weights`; None to start at random.
        weights_prefix: what stands before the network's names in that file; None to look for it.

    Raises:
        InputError: without timm, for a name it does not know, or a size that the architecture cannot take.
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
    """Width of the features, by a forward pass on the meta device, which computes nothing but shapes.

    No attribute of timm's models tells it for all of them, and this also finds the sizes that an architecture cannot
    take, which most notice in their first forward pass only.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            network = timm.create_model(name, pretrained=False, **settings).eval()
            features = network(torch.zeros(1, settings["in_chans"], image_size, image_size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"timm's {name!r} cannot take image_size {image_size}: {reason}") from error
    return int(features.shape[1])
