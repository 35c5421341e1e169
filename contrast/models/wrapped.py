"""Backbones that wrap another backbone and change only how it is computed: torch.compile and gradient caching."""

from __future__ import annotations

import contextlib
from abc import ABC
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from contrast.checks import checked, require_positive
from contrast.errors import InputError
from contrast.models.backbone import Backbone

__all__ = ["Compiled", "GradientCache", "WrappedBackbone"]


class WrappedBackbone(Backbone, ABC):
    """Base class of backbones that wrap another backbone and change only how it is computed.

    Args:
        backbone: the wrapped backbone.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.width, backbone.channels, backbone.image_size)
        self.backbone = backbone

    @property
    def axes(self) -> int:  # type: ignore[override]  # of the class elsewhere, here of what it holds
        return self.backbone.axes

    def describe(self) -> dict[str, Any]:
        return self.backbone.describe()

    @property
    def plain_module(self) -> nn.Module:
        return self.backbone.plain_module


class Compiled(WrappedBackbone):
    """Backbone compiled by ``torch.compile`` when it sees its first batch; the same function up to rounding.

    The first batch waits for the compiler, half a minute for a ResNet-18. So does the first batch of another size or
    mode. Whether steps are faster afterwards depends on the device; on a CPU they may be slower.

    Args:
        backbone: the backbone to compile.
        backend: backend of torch's compiler.

    Raises:
        InputError: if torch does not have the backend. At the first batch: if torch cannot compile the backbone.

    Example:
        >>> from contrast.models import ConvNet
        >>> net = Compiled(ConvNet((4, 8), channels=1, image_size=8), backend="eager")
        >>> net.width, net.backend
        (8, 'eager')
    """

    @checked
    def __init__(self, backbone: Backbone, backend: str = "inductor") -> None:
        super().__init__(backbone)
        known = torch.compiler.list_backends(exclude_tags=())
        if backend not in known:
            raise InputError(f"Compiled: backend {backend!r} is not one of torch's: {', '.join(known)}")
        self.backend = backend

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d"]:
        # Compile in place, so that the weights keep their names. Hooks belong on this outer module, which is not
        # compiled.
        if self.backbone._compiled_call_impl is None:
            self.backbone.compile(backend=self.backend)
        try:
            features: Tensor = self.backbone(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = str(error).strip().splitlines()[0]
            raise InputError(
                f"Compiled: torch cannot compile this backbone here ({cause}): use it uncompiled"
            ) from error
        return features

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}"


class GradientCache(WrappedBackbone):
    """Gradient caching: encode at most `rows` samples at a time, to save the memory of a large batch's activations.

    ``f(x) = [f(x_1), f(x_2), ...]``

    The forward pass keeps only the features of each part. The backward pass encodes the parts again, one after another,
    with the gradient of the whole batch's loss for their features. Loss and gradient equal those of the whole batch,
    with all negatives, if samples do not interact in the backbone. In batch norm samples do interact: each part then
    has its own batch statistics, as with several processes, and the running statistics are updated once per part.

    The backward pass repeats the encoder's forward pass, about a third of a step's time. The projection head is not
    included.

    Args:
        backbone: the encoder.
        rows: largest number of samples of a part, at least 1. A batch is split into parts of nearly equal size.

    Raises:
        InputError: if `rows` is below 1.

    Source: Gao et al., RepL4NLP 2021, arXiv 2101.06983, section 3. The second forward pass is autograd's recomputation
    (activation checkpointing).

    Example:
        >>> from contrast.models import ConvNet
        >>> cached = GradientCache(ConvNet((4, 8), channels=1, image_size=8), rows=3)
        >>> cached(torch.zeros(7, 1, 8, 8)).shape
        torch.Size([7, 8])
    """

    @checked
    def __init__(self, backbone: Backbone, rows: int) -> None:
        super().__init__(backbone)
        self.rows = require_positive("GradientCache", "rows", rows)

    def forward(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b d"]:
        parts = images.tensor_split(max(1, -(-len(images) // self.rows)))  # nearly equal parts, for batch norm
        if not torch.is_grad_enabled():
            return torch.cat([self.backbone(part) for part in parts])
        features = [checkpoint(self.backbone, part, use_reentrant=False, context_fn=self._contexts) for part in parts]
        return torch.cat(features)

    def extra_repr(self) -> str:
        return f"rows={self.rows}"

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), _still(self.backbone)


@contextlib.contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm unchanged; batches are still normalised by their own statistics.

    The forward pass has already moved the running statistics for this part.
    """
    norms = [
        (each, each.momentum, each.num_batches_tracked)
        for each in module.modules()
        if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.num_batches_tracked is not None
    ]
    counts = [count.clone() for _, _, count in norms]
    for norm, _, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum, count), before in zip(norms, counts, strict=True):
            norm.momentum = momentum
            count.copy_(before)
