"""A residual network of one-dimensional convolutions, for time series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.models.backbone import Backbone
from contrast.models.checks import require_positive

__all__ = ["ResNet1d"]


class ResNet1d(Backbone):
    """A ResNet of basic blocks over time: series to features, averaged over all steps.

    A convolution of 7 steps at stride 1 without pooling, then stages of basic blocks (two convolutions of 3 steps and a
    shortcut), each stage with twice the channels of the one before at half its resolution.

    Args:
        blocks: basic blocks of each stage; (2, 2, 2, 2) is ResNet-18.
        base_width: channels of the first stage; the last has ``base_width · 2^(stages − 1)``, as many as features.
        channels: channels of the series, of any length.

    Raises:
        InputError: where `blocks` is empty or a number is below 1.

    Source: He et al., CVPR 2016, arXiv 1512.03385, over time: the encoder of DBPM (Lan et al., ICLR 2024,
    arXiv 2302.03357), whose code this follows but for the linear layer to 256 at its end, which is a head's part here.

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
            stages.append(_Block(inputs, outputs, stride=2 if number and not place else 1))
            inputs = outputs
    return stages


class _Block(nn.Module):
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
