"""A backbone whose forward and backward torch compiles."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.models.backbone import Backbone
from contrast.models.holder import Holder

__all__ = ["Compiled"]


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
