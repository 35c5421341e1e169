"""What losses of whole batches share: the rows of all processes, and a matrix without its diagonal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.distributed import gather
from contrast.errors import InputError
from contrast.losses.wide import wide
from contrast.pairs import Pairs

__all__ = ["both_views", "off_diagonal"]


def both_views(owner: str, pairs: Sequence[Pairs]) -> tuple[Pairs, Float[Tensor, "*h n d"], Float[Tensor, "*h n d"]]:
    """The one direction there is, and the queries and positives of all processes, at least float32, with gradient.

    Every process computes the same loss of all rows; averaged over processes, as DistributedDataParallel does, the
    gradients are those of one.

    Args:
        owner: the loss, for messages.
        pairs: what it was given.

    Raises:
        InputError: where there are several directions, or fewer than two samples.
    """
    if len(pairs) != 1:
        raise InputError(f"{owner} takes one direction, query and positive, not {len(pairs)}: use --model TwoView")
    (only,) = pairs
    z1, z2 = (gather(wide(rows).movedim(-2, 0)).movedim(0, -2) for rows in (only.query, only.positive))
    # Two rows may be two views of one sample; of more no device is asked.
    if z1.shape[-2] < 2 or (z1.shape[-2] == len(only.index) == 2 and bool(only.index[0] == only.index[1])):
        raise InputError(f"{owner} takes statistics over the batch, of 1 samples: give at least 2")
    return only, z1, z2


def off_diagonal(matrices: Float[Tensor, "*h d d"]) -> Float[Tensor, "*h d d"]:
    """The matrices with zeros on the diagonal."""
    diagonal = torch.eye(matrices.shape[-1], dtype=torch.bool, device=matrices.device)
    return matrices.masked_fill(diagonal, 0)
