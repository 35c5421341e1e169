"""The one way that a label meets a loss: a table by sample, given at construction and looked up by index."""

from __future__ import annotations

import logging
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from contrast.arguments import check_tensors
from contrast.errors import InputError

__all__ = ["LabelTable"]

_log = logging.getLogger(__name__)


class LabelTable(nn.Module):
    """Labels of the training samples; -1 is unlabelled, and so is the sample -1.

    Args:
        owner: whose labels they are, for messages.
        labels: one a sample, integers of shape (n,).

    Attributes:
        note: what is wrong with labels that are all the same, all different or all missing; empty for others. It is
            logged once as a warning.

    Raises:
        InputError: where there are none, for another shape or type, and for a label below -1.

    Example:
        >>> LabelTable("SupCon", torch.tensor([5, 3]))(torch.tensor([1, 0, -1]))
        tensor([ 3,  5, -1])
    """

    table: Tensor

    def __init__(self, owner: str, labels: Any) -> None:  # whatever it is, it is refused here in one line
        super().__init__()
        self.owner = owner
        if labels is None:
            raise InputError(f"{owner} learns from labels: give `labels`, one for each training sample")
        check_tensors(owner, {"labels": (labels, (Int[Tensor, " n"],))})
        if not len(labels):
            raise InputError(f"{owner}: labels are empty: give one for each training sample")
        if int(labels.min()) < -1:
            raise InputError(f"{owner}: the label {int(labels.min())} is below -1: give classes from 0, -1 for none")
        self.note = _note(labels)
        if self.note:
            _log.warning("%s: %s", owner, self.note)
        # Not in checkpoints: they are the data's, and a run gets them from there again.
        self.register_buffer("table", labels.clone(), persistent=False)

    def forward(self, index: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        known = index >= 0
        if index.numel() and int(index.max()) >= len(self.table):
            raise InputError(f"there is no label for sample {int(index.max())} among {len(self.table)}")
        return torch.where(known, self.table[index.clamp(min=0)], -1)


def _note(labels: Int[Tensor, " n"]) -> str:
    """What a loss cannot learn from these labels, in one sentence; empty where it can."""
    known = labels[labels >= 0]
    classes = len(torch.unique(known))
    if classes == 0:
        return f"none of {len(labels)} samples has a label, so that labels change nothing"
    if classes == len(known) and len(known) > 1:
        return f"all {classes} labels are different, so that no two samples are of one class and labels change nothing"
    if classes == 1:
        return f"all {len(known)} labelled samples are of class {int(known[0])}, so that no sample is of another class"
    return ""
