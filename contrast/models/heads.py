"""Projection heads: from features to the embeddings that the loss sees; dropped after pretraining.

The first argument of every head is the features' width, so that a configuration can name a head without it
(``Callable[[int], Head]``). A head never normalises its output: the method does, for the losses that want unit rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.checks import checked, require_positive

__all__ = ["Head", "LinearHead", "MLPHead", "MoCoV2Head", "MultiHead", "SimCLRHead"]


class Head(nn.Module, ABC):
    """Features to embeddings.

    Args:
        input_width: width of the features.
        output_width: width of the embeddings.

    Attributes:
        head_count: how many heads there are; None where embeddings have no axis for them.

    Raises:
        InputError: where one of them is below 1.
    """

    head_count: int | None = None

    @checked
    def __init__(self, input_width: int, output_width: int) -> None:
        super().__init__()
        self.input_width = require_positive(type(self).__name__, "input_width", input_width)
        self.output_width = require_positive(type(self).__name__, "output_width", output_width)

    @abstractmethod
    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "*h b e"]:
        """Embeddings, (b, self.output_width), not normalised; with several heads a first axis for them."""


class LinearHead(Head):
    """One linear layer: MoCo v1.

    Source: He et al., CVPR 2020, arXiv 1911.05722; the last layer of the authors' encoder, with bias.

    Args:
        input_width: width of the features.
        output_width: width of the embeddings.

    Example:
        >>> LinearHead(512)(torch.zeros(2, 512)).shape
        torch.Size([2, 128])
    """

    @checked
    def __init__(self, input_width: int, output_width: int = 128) -> None:
        super().__init__(input_width, output_width)
        self.layers = nn.Linear(input_width, output_width)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        embeddings: Tensor = self.layers(features)
        return embeddings


class MLPHead(Head):
    """Linear layers with ReLU between them, with or without batch norm: the head of most methods.

    A layer that a norm follows has no bias, which the norm would take away again.

    Args:
        input_width: width of the features.
        hidden_width: width of every layer but the last; that of the features if left out.
        output_width: width of the embeddings.
        layers: number of linear layers.
        batch_norm: a norm after every layer but the last, before its ReLU.
        final_batch_norm: a norm after the last layer too; it learns no shift.
        final_scale: whether that last norm learns a scale.
        bias: whether the last layer has a bias, where no norm follows it.

    Raises:
        InputError: where a width or the number of layers is below 1.

    Example:
        >>> MLPHead(8, hidden_width=32, output_width=16, layers=3, batch_norm=True)(torch.randn(2, 8)).shape
        torch.Size([2, 16])
    """

    @checked
    def __init__(
        self,
        input_width: int,
        hidden_width: int | None = None,
        output_width: int = 128,
        layers: int = 2,
        batch_norm: bool = False,
        final_batch_norm: bool = False,
        final_scale: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__(input_width, output_width)
        hidden = input_width if hidden_width is None else require_positive("MLPHead", "hidden_width", hidden_width)
        widths = [input_width] + [hidden] * (require_positive("MLPHead", "layers", layers) - 1)
        parts: list[nn.Module] = []
        for i, o in pairwise(widths):
            parts.append(nn.Linear(i, o, bias=not batch_norm))
            parts.extend([nn.BatchNorm1d(o)] if batch_norm else [])
            parts.append(nn.ReLU(inplace=True))
        parts.append(nn.Linear(widths[-1], output_width, bias=bias and not final_batch_norm))
        if final_batch_norm:
            parts.append(_norm_without_shift(output_width, final_scale))
        self.layers = nn.Sequential(*parts)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        embeddings: Tensor = self.layers(features)
        return embeddings


class SimCLRHead(MLPHead):
    """Linear, norm, ReLU, linear, norm: SimCLR.

    Source: Chen et al., ICML 2020, arXiv 2002.05709: two layers, hidden width that of the features, 128 out, no word of
    norms. The authors' code normalises after both, the last time without a shift, and so do we. Its default is three
    layers (run.py:206-208 at 383d4143), as in SimCLR v2 (arXiv 2006.10029) and in the authors' command for CIFAR-10:
    ``layers=3``. It starts the weights from N(0, 0.01²), which the norms
    undo; ours start as torch's do.

    Args:
        input_width: width of the features.
        hidden_width: width of the hidden layers; that of the features if left out.
        output_width: width of the embeddings.
        layers: number of linear layers.
    """

    @checked
    def __init__(
        self, input_width: int, hidden_width: int | None = None, output_width: int = 128, layers: int = 2
    ) -> None:
        super().__init__(input_width, hidden_width, output_width, layers, batch_norm=True, final_batch_norm=True)


class MoCoV2Head(MLPHead):
    """Linear, ReLU, linear, without norms: MoCo v2.

    Source: Chen et al., arXiv 2003.04297, and the authors' code; 2,048 hidden units there are the width of
    a ResNet-50's features.

    Args:
        input_width: width of the features.
        hidden_width: width of the hidden layer; that of the features if left out.
        output_width: width of the embeddings.
    """

    @checked
    def __init__(self, input_width: int, hidden_width: int | None = None, output_width: int = 128) -> None:
        super().__init__(input_width, hidden_width, output_width)


class MultiHead(Head):
    """Several heads of independent weights side by side, each with its own embedding of a sample: AMCL.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615; three heads there.

    Args:
        input_width: width of the features.
        head: makes one head from the features' width; `MLPHead` with its defaults if left out.
        heads: how many.

    Raises:
        InputError: where there are fewer than 1.

    Example:
        >>> MultiHead(512, LinearHead)(torch.zeros(2, 512)).shape
        torch.Size([3, 2, 128])
    """

    @checked
    def __init__(self, input_width: int, head: Callable[[int], Head] | None = None, heads: int = 3) -> None:
        make = MLPHead if head is None else head
        made = [make(input_width) for _ in range(require_positive("MultiHead", "heads", heads))]
        super().__init__(input_width, made[0].output_width)
        self.heads, self.head_count = nn.ModuleList(made), heads

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "h b e"]:
        return torch.stack([head(features) for head in self.heads])


def _norm_without_shift(width: int, scale: bool) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(width, affine=scale)
    norm.register_parameter("bias", None)
    return norm
