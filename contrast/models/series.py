"""Backbones for time series: a 1D ResNet and a dilated convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from contrast.checks import checked, require_positive
from contrast.errors import InputError
from contrast.models.backbone import Backbone

__all__ = ["DilatedConvNet", "ResNet1d"]


class ResNet1d(Backbone):
    """1D ResNet backbone of basic blocks for time series; the features are averaged over all time steps.

    The stem is a convolution of 7 steps at stride 1 without pooling. Stages of basic blocks follow. A basic block has
    two convolutions of 3 steps and a shortcut. Each stage has twice the channels and half the resolution of the stage
    before.

    Args:
        blocks: number of basic blocks of each stage. (2, 2, 2, 2) is ResNet-18.
        base_width: channels of the first stage. The last stage has ``base_width · 2^(stages − 1)``, the number of
            features.
        channels: channels of the series. The series may have any length.

    Raises:
        InputError: if `blocks` is empty or a number is below 1.

    Source: He et al., CVPR 2016, arXiv 1512.03385, applied over time: the encoder of DBPM (Lan et al., ICLR 2024, arXiv
    2302.03357). We follow the authors' code except for its final linear layer to 256, which is part of a head here.

    Example:
        >>> import torch
        >>> ResNet1d((1, 1), base_width=4, channels=3)(torch.zeros(5, 3, 25)).shape
        torch.Size([5, 8])
    """

    axes: ClassVar[int] = 1

    @checked
    def __init__(self, blocks: tuple[int, ...] = (2, 2, 2, 2), base_width: int = 64, channels: int = 1) -> None:
        if not blocks:
            raise InputError("ResNet1d's blocks are empty: give a number of blocks for each stage, say [2, 2, 2, 2]")
        for count in blocks:
            require_positive("ResNet1d", "blocks entry", count)
        require_positive("ResNet1d", "base_width", base_width)
        super().__init__(base_width * 2 ** (len(blocks) - 1), channels)
        self.blocks, self.base_width = tuple(blocks), base_width
        self.stem = nn.Sequential(
            nn.Conv1d(channels, base_width, 7, padding=3, bias=False), nn.BatchNorm1d(base_width), nn.ReLU()
        )
        self.stages = nn.Sequential(*_stages(blocks, base_width))

    def forward(self, series: Float[Tensor, "b c t"]) -> Float[Tensor, "b d"]:
        features: Tensor = self.stages(self.stem(series)).mean(dim=2)
        return features

    def describe(self) -> dict[str, Any]:
        arguments = {"blocks": list(self.blocks), "base_width": self.base_width, "channels": self.channels}
        call = f"net = contrast.models.ResNet1d({self.blocks}, {self.base_width}, {self.channels})"
        return self._card("contrast", "resnet1d", None, arguments, ["import contrast.models", call])


def _stages(blocks: Sequence[int], base_width: int) -> list[nn.Module]:
    stages: list[nn.Module] = []
    inputs = base_width
    for number, count in enumerate(blocks):
        outputs = base_width * 2**number
        for place in range(count):
            stages.append(_ResidualBlock(inputs, outputs, stride=2 if number and not place else 1))
            inputs = outputs
    return stages


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv1d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
            nn.Conv1d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm1d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv1d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm1d(outputs))

    def forward(self, series: Float[Tensor, "b c t"]) -> Float[Tensor, "b d u"]:
        together: Tensor = self.residual(series) + self.shortcut(series)
        return together.relu()


class DilatedConvNet(Backbone):
    """Dilated convolutional backbone for time series: the encoder of TS2Vec.

    A linear map of each time step is followed by residual blocks of dilated convolutions. Block i (from 0) adds to its
    input ``conv(gelu(conv(gelu(x))))``, where both convolutions have 3 taps that are 2^i steps apart. There are `depth`
    blocks of `hidden_width` channels and one last block of `width` channels, whose shortcut is a convolution of one
    step. There is no norm. The features are the maximum over all time steps.

    Args:
        width: number of features per sample.
        hidden_width: channels of all blocks but the last.
        depth: number of blocks before the last. A feature depends on up to ``2^(depth + 3) − 3`` steps.
        channels: channels of the series. The series may have any length.

    Raises:
        InputError: if a number is below 1.

    Source: Yue et al., TS2Vec: Towards Universal Representation of Time Series (AAAI 2022, arXiv 2106.10466), section
    3.2 and the maximum over time for a whole series (instance level). The masks of time steps and the dropout at the
    end of the authors' encoder are left out.

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
            *(_DilatedBlock(hidden_width, each, 2**number, number == depth) for number, each in enumerate(outputs))
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


class _DilatedBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=dilation, dilation=dilation)
        self.shortcut: nn.Module = nn.Conv1d(inputs, outputs, 1) if last else nn.Identity()

    def forward(self, series: Float[Tensor, "b c t"]) -> Float[Tensor, "b d t"]:
        together: Tensor = self.second(gelu(self.first(gelu(series)))) + self.shortcut(series)
        return together
