"""Small convolutional backbone for demonstrations, tests and experiments on a CPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from contrast.checks import checked, require_positive
from contrast.errors import InputError
from contrast.models.backbone import Backbone

__all__ = ["ConvNet"]


class ConvNet(Backbone):
    """Small convolutional backbone for images, fast enough for a CPU.

    Each stage is a 3×3 convolution with batch norm and ReLU. Every stage but the last halves the resolution. The
    features are the global average of the last stage.

    Args:
        widths: output channels of each convolution. The last entry is the number of features.
        channels: channels of the images.
        image_size: height and width of the images, in pixels. `forward` accepts any size from ``2^(len(widths) - 1)``
            up.

    Raises:
        InputError: if `widths` is empty, a number is below 1, or the images are too small to be halved that often.

    Example:
        >>> import torch
        >>> ConvNet((8, 16), channels=1, image_size=8)(torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 16])
    """

    @checked
    def __init__(self, widths: tuple[int, ...] = (32, 64, 128), channels: int = 3, image_size: int = 32) -> None:
        if not widths:
            raise InputError("ConvNet's widths are empty: give one channel number per convolution, say [32, 64, 128]")
        for width in widths:
            require_positive("ConvNet", "widths entry", width)
        super().__init__(widths[-1], channels, image_size)
        if image_size < 2 ** (len(widths) - 1):
            raise InputError(f"ConvNet's image_size {image_size} is too small to be halved {len(widths) - 1} times")
        self.widths = widths
        last = len(widths) - 1
        sizes = enumerate(pairwise((channels, *widths)))
        self.stages = nn.Sequential(*(_stage(i, o, halve=number < last) for number, (i, o) in sizes))

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b d"]:
        features: Tensor = self.stages(images).mean(dim=(2, 3))
        return features

    def describe(self) -> dict[str, Any]:
        arguments = {"widths": list(self.widths), "channels": self.channels, "image_size": self.image_size}
        call = f"net = contrast.models.ConvNet({self.widths}, {self.channels}, {self.image_size})"
        return self._card("contrast", "convnet", None, arguments, ["import contrast.models", call])


def _stage(inputs: int, outputs: int, halve: bool) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    # Pooling before the norm, not after the ReLU, leaves the norm a quarter of the values to process.
    pooling = nn.MaxPool2d(2) if halve else nn.Identity()
    return nn.Sequential(convolution, pooling, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
