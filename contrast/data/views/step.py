"""What a recipe is a list of: a step changes each image of a batch by draws of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

__all__ = ["Step", "apply_where"]


class Step(ABC):
    """One random change of a batch of images.

    Attributes:
        draws: how many uniform numbers the step takes for one image.
    """

    draws: ClassVar[int]

    @abstractmethod
    def __call__(self, images: Float[Tensor, "b c h w"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """Change each image, values in [0, 1], by its own row of `draws`, uniform in [0, 1)."""


def apply_where(
    chosen: Bool[Tensor, " b"],
    change: Callable[..., Tensor],
    images: Float[Tensor, "b c h w"],
    *parameters: Shaped[Tensor, "b ..."],
    rank: Int[Tensor, " b"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """``change(image, *parameters)`` where an image is chosen, the image itself elsewhere; may overwrite `images`.

    Args:
        chosen: which images.
        change: of a batch of any number of images, which it may overwrite.
        images: values in [0, 1].
        parameters: rows of what it takes beside them.
        rank: where only the chosen are computed, those of lower rank come first.
    """
    # Computing only the chosen needs their number on the host. On an accelerator that wait would cost more than the
    # arithmetic it saves.
    if images.device.type == "cpu":
        return _change_rows(chosen, change, images, *parameters, rank=rank)
    return _change_all(chosen, change, images, *parameters, rank=rank)


def _change_rows(
    chosen: Tensor, change: Callable[..., Tensor], images: Tensor, *parameters: Tensor, rank: Tensor | None
) -> Tensor:
    rows = chosen.nonzero()[:, 0]
    if len(rows) == 0:
        return images
    if rank is not None:
        rows = rows[rank[rows].argsort(stable=True)]
    changed = change(images.index_select(0, rows), *(parameter[rows] for parameter in parameters))
    # By numpy, which copies whole images in a fifth of the time that `index_copy_` takes on one thread.
    images.numpy()[rows.numpy()] = changed.numpy()
    return images


def _change_all(
    chosen: Tensor, change: Callable[..., Tensor], images: Tensor, *parameters: Tensor, rank: Tensor | None
) -> Tensor:
    return torch.where(chosen[:, None, None, None], change(images.clone(), *parameters), images)
