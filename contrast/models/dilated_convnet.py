"""Dilated convolutions over time: each block sees twice as far as the one before, without losing a step."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from contrast.arguments import checked
from contrast.models.backbone import Backbone
from contrast.models.checks import require_positive

__all__ = ["DilatedConvNet"]


class DilatedConvNet(Backbone):
    """A linear map of each step, then residual blocks of dilated convolutions; the maximum over all steps.

    Block i (from 0) adds to its input ``conv(gelu(conv(gelu(x))))``, both of 3 steps, 2^i apart. There are `depth`
    blocks of `hidden_width` channels and one of `width`, whose shortcut is a convolution of one step; there is no norm.

    Args:
        width: features a sample.
        hidden_width: channels of all blocks but the last.
        depth: blocks before the last; a feature sees up to ``2^(depth + 3) − 3`` steps.
        channels: channels of the series, of any length.

    Raises:
        InputError: where a number is below 1.

    Source: Yue et al., TS2Vec: Towards Universal Representation of Time Series (AAAI 2022, arXiv 2106.10466), section
    3.2 and the maximum of its instances over time; without its masks of steps, and without the dropout that ends the
    authors' encoder.

    Example:
        >>> import torch
        >>> DilatedConvNet(width=8, hidden_width=4, depth=2, channels=3)(torch.zeros(5, 3, 25)).shape
        torch.Size([5, 8])
    """

    axes: ClassVar[int] = 1

    @checked
    def __init__(self, width: int = 320, hidden_width: int = 64, depth: int = 10, channels: int = 1) -> None:
        super().__init__(width, channels)
        self.hidden_width = require_positive("DilatedConvNet", "hidden_width", hidden_width)
        self.depth = require_positive("DilatedConvNet", "depth", depth)
        self.stem = nn.Conv1d(channels, hidden_width, 1)
        outputs = [hidden_width] * depth + [width]
        self.blocks = nn.Sequential(
            *(_Block(hidden_width, each, 2**number, number == depth) for number, each in enumerate(outputs))
        )

    def forward(self, series: Float[Tensor, "b c t"]) -> Float[Tensor, "b d"]:
        features: Tensor = self.blocks(self.stem(series)).amax(dim=2)
        return features

    def describe(self) -> dict[str, Any]:
        arguments = {
            "width": self.width,
            "hidden_width": self.hidden_width,
            "depth": self.depth,
            "channels": self.channels,
        }
        call = f"net = contrast.models.DilatedConvNet({', '.join(map(str, arguments.values()))})"
        return self._card("contrast", "dilated_convnet", None, arguments, ["import contrast.models", call])


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=dilation, dilation=dilation)
        self.shortcut: nn.Module = nn.Conv1d(inputs, outputs, 1) if last else nn.Identity()

    def forward(self, series: Float[Tensor, "b c t"]) -> Float[Tensor, "b d t"]:
        together: Tensor = self.second(gelu(self.first(gelu(series)))) + self.shortcut(series)
        return together
