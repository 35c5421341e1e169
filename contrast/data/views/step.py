"""Base class of augmentation steps: a random change of each image in a batch."""

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
"""Function that changes images (b, c, h, w) in place; the slice says which rows of the batch they are."""


class Step(ABC):
    """Base class of augmentation steps: one random change of a batch of images.

    Attributes:
        draws: number of uniform random numbers that the step needs per image.
    """

    draws: ClassVar[int]

    @abstractmethod
    def __call__(self, images: Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """Change each image by its own row of `draws`. May overwrite `images`.

        Args:
            images: values in [0, 1].
            draws: uniform in [0, 1).
        """

    def on_cpu(self, draws: Float[Tensor, "b n"]) -> OnCpu:
        """CPU version of the step: a function that changes one part of a batch at a time, called from several threads.

        A step without its own CPU version is called on one part after another, under a lock. The lock is needed because
        torch's operations have their own threads, and because a torch setting such as a precision applies to all
        threads.

        Args:
            draws: random numbers of the whole batch, uniform in [0, 1).
        """
        alone = Lock()

        def change(images: NDArray[np.float32], rows: slice) -> None:
            with alone, torch.no_grad(), torch.autocast("cpu", enabled=False):  # both settings are per thread
                images[:] = self(torch.from_numpy(images), draws[rows]).numpy()

        return change


def apply_where(
    chosen: Bool[Tensor, " b"],
    change: Callable[..., Tensor],
    images: Float[Tensor, "b c h w"],
    *parameters: Shaped[Tensor, "b ..."],
) -> Float[Tensor, "b c h w"]:
    """Apply ``change(image, *parameters)`` to the chosen images; return the others unchanged.

    All images are computed. To compute only the chosen ones, the host would need their number; on an accelerator that
    synchronisation would cost more than the arithmetic it saves.

    Args:
        chosen: which images are changed.
        change: function of images and parameters. It may overwrite its images, which are a copy.
        images: (b, c, h, w).
        parameters: tensors with one entry per image.
    """
    return torch.where(chosen[:, None, None, None], change(images.clone(), *parameters), images)
