"""What a recipe is a list of: a step changes each image of a batch by draws of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["OnCpu", "Step", "apply_where"]

OnCpu = Callable[[NDArray[np.float32], slice], None]
"""Changes images (b, c, h, w) in place, which are those rows of a batch."""


class Step(ABC):
    """One random change of a batch of images.

    Attributes:
        draws: how many uniform numbers the step takes for one image.
    """

    draws: ClassVar[int]

    @abstractmethod
    def __call__(self, images: Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """Change each image, values in [0, 1], by its own row of `draws`, uniform in [0, 1). May overwrite `images`."""

    def on_cpu(self, draws: Float[Tensor, "b n"]) -> OnCpu:
        """The same change by these draws, for a CPU to make of a part of the batch at a time, in several threads.

        That of a step which has none of its own is a call of the step, of one part after another: torch's operations
        have threads of their own, and what is set for torch, such as a precision, is set for all threads.
        """
        alone = Lock()

        def change(images: NDArray[np.float32], rows: slice) -> None:
            with alone, torch.no_grad(), torch.autocast("cpu", enabled=False):  # both are a thread's own
                images[:] = self(torch.from_numpy(images), draws[rows]).numpy()

        return change


def apply_where(
    chosen: Bool[Tensor, " b"],
    change: Callable[..., Tensor],
    images: Float[Tensor, "b c h w"],
    *parameters: Shaped[Tensor, "b ..."],
) -> Float[Tensor, "b c h w"]:
    """``change(image, *parameters)`` where an image is chosen, the image itself elsewhere.

    All are computed: to compute only the chosen needs their number on the host, and on an accelerator that wait would
    cost more than the arithmetic it saves. `change` may overwrite what it is given.
    """
    return torch.where(chosen[:, None, None, None], change(images.clone(), *parameters), images)
