"""A backbone that wraps another and changes only how it is computed."""

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

__all__ = ["Compiled", "GradientCache", "Holder"]


class Holder(Backbone, ABC):
    """A backbone that is another one, but for how it computes.

    Args:
        backbone: what is held.
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


class Compiled(Holder):
    """A backbone that ``torch.compile`` compiles when it first sees a batch: the same function up to rounding.

    The first batch waits for the compiler, half a minute for a ResNet-18, and so does the first of another size or
    mode. Whether steps are faster then depends on the device: on a CPU they may be slower.

    Args:
        backbone: what is compiled.
        backend: of torch's compiler.

    Raises:
        InputError: for a backend that torch does not have, and, with the first batch, where it cannot compile.

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
        # In place, so that names of weights stay; what others hook is this module, which is not compiled.
        if self.backbone._compiled_call_impl is None:
            self.backbone.compile(backend=self.backend)
        try:
            features: Tensor = self.backbone(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = str(error).strip().splitlines()[0]
            raise InputError(f"Compiled: torch cannot compile this backbone here ({cause}): use it without") from error
        return features

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}"


class GradientCache(Holder):
    """A backbone that sees `rows` samples at a time, so that a batch's activations are never all there.

    ``f(x) = [f(x_1), f(x_2), ...]``: forward keeps the features of each part, backward encodes the parts again, one
    after another, with the gradient that the whole batch's loss has for them. Loss and gradient are those of the whole
    batch, negatives included, where samples do not meet in the backbone. Batch norm makes them meet: it then takes its
    statistics from each part, as several processes do, and its running statistics move once for each part.

    Backward runs the encoder forward once more, about a third of a step's time. The projection head is no part of it.

    Source: Gao et al., RepL4NLP 2021, arXiv 2101.06983, section 3. The second pass is autograd's own recomputation.

    Args:
        backbone: what encodes.
        rows: samples of a part at most, at least 1; a batch is split into parts that are alike.

    Raises:
        InputError: where `rows` is below 1.

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
        parts = images.tensor_split(max(1, -(-len(images) // self.rows)))  # alike in size, for batch norm
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
    """Batch norm normalises as ever, and its running statistics stay: the part has moved them in forward already."""
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
