"""Projection heads: networks from backbone features to the embeddings that the loss sees; dropped after pretraining.

The first argument of every head is the width of the features. A configuration can therefore leave it out
(``Callable[[int], Head]``). A head never normalises its output: the method does so, for losses that need unit rows.
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
    """Base class of projection heads, from features to embeddings.

    Args:
        input_width: width of the features.
        output_width: width of the embeddings.

    Attributes:
        head_count: number of parallel heads; None if the embeddings have no axis for heads.

    Raises:
        InputError: if an argument is below 1.
    """

    head_count: int | None = None

    @checked
    def __init__(self, input_width: int, output_width: int) -> None:
        super().__init__()
        self.input_width = require_positive(type(self).__name__, "input_width", input_width)
        self.output_width = require_positive(type(self).__name__, "output_width", output_width)

    @abstractmethod
    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "*h b e"]:
        """Compute embeddings, (b, self.output_width), not normalised; several heads add a first axis for the head."""


class LinearHead(Head):
    """Linear projection head: one linear layer, as in MoCo v1.

    Args:
        input_width: width of the features.
        output_width: width of the embeddings.

    Source: He et al., CVPR 2020, arXiv 1911.05722; the last layer of the authors' encoder, with bias.

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
    """MLP projection head: linear layers with ReLU between them and optional batch norm; the head of most methods.

    A linear layer that is followed by batch norm has no bias, because the norm would subtract the bias again.

    Args:
        input_width: width of the features.
        hidden_width: width of every layer but the last. None takes the width of the features.
        output_width: width of the embeddings.
        layers: number of linear layers.
        batch_norm: whether batch norm follows every layer but the last, before its ReLU.
        final_batch_norm: whether batch norm without a learned shift follows the last layer.
        final_scale: whether that last norm learns a scale.
        bias: whether the last layer has a bias. It has none if a norm follows it.

    Raises:
        InputError: if a width or the number of layers is below 1.

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
    """SimCLR's projection head: linear, batch norm, ReLU, linear, batch norm.

    Args:
        input_width: width of the features.
        hidden_width: width of the hidden layers. None takes the width of the features.
        output_width: width of the embeddings.
        layers: number of linear layers.

    Source: Chen et al., ICML 2020, arXiv 2002.05709. The paper has two layers, a hidden width equal to the width of the
    features and 128 outputs; it does not mention norms. The authors' code has a norm after both layers, the last one
    without a shift, and so do we. The code's default is three layers (run.py:206-208 at 383d4143), as in SimCLR v2
    (arXiv 2006.10029) and in the authors' command for CIFAR-10; use ``layers=3`` for that. The code draws initial
    weights from N(0, 0.01²), a scale that the norms cancel; ours use torch's default initialisation.
    """

    @checked
    def __init__(
        self, input_width: int, hidden_width: int | None = None, output_width: int = 128, layers: int = 2
    ) -> None:
        super().__init__(input_width, hidden_width, output_width, layers, batch_norm=True, final_batch_norm=True)


class MoCoV2Head(MLPHead):
    """MoCo v2's projection head: linear, ReLU, linear, without norms.

    Args:
        input_width: width of the features.
        hidden_width: width of the hidden layer. None takes the width of the features.
        output_width: width of the embeddings.

    Source: Chen et al., arXiv 2003.04297, and the authors' code. Their 2,048 hidden units are the width of a
    ResNet-50's features.
    """

    @checked
    def __init__(self, input_width: int, hidden_width: int | None = None, output_width: int = 128) -> None:
        super().__init__(input_width, hidden_width, output_width)


class MultiHead(Head):
    """Several parallel projection heads with independent weights, each with its own embedding of a sample, as in AMCL.

    Args:
        input_width: width of the features.
        head: function that makes one head from the width of the features. None makes an `MLPHead` with its defaults.
        heads: number of heads.

    Raises:
        InputError: if `heads` is below 1.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615; the paper uses three heads.

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
