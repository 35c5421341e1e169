"""The one way that a label meets a loss: a table by sample, given at construction and looked up by index."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from contrast.errors import InputError

__all__ = ["LabelTable"]


class LabelTable(nn.Module):
    """Labels of the training samples; -1 is unlabelled, and so is the sample -1.

    Args:
        owner: whose labels they are, for messages.
        labels: one a sample, (n,).

    Raises:
        InputError: where there are none.

    Example:
        >>> LabelTable("SupCon", torch.tensor([5, 3]))(torch.tensor([1, 0, -1]))
        tensor([ 3,  5, -1])
    """

    table: Tensor

    def __init__(self, owner: str, labels: Int[Tensor, " n"] | None) -> None:
        super().__init__()
        self.owner = owner
        if labels is None:
            raise InputError(f"{owner} learns from labels: give `labels`, one for each training sample")
        # Not in checkpoints: they are the data's, and a run gets them from there again.
        self.register_buffer("table", labels.clone(), persistent=False)

    def forward(self, index: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        known = index >= 0
        if index.numel() and int(index.max()) >= len(self.table):
            raise InputError(f"there is no label for sample {int(index.max())} among {len(self.table)}")
        return torch.where(known, self.table[index.clamp(min=0)], -1)
