"""The class oracle: negatives of a query's own class taken away, by labels, for analysis."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor

from contrast.arguments import checked
from contrast.losses.labels import LabelTable
from contrast.losses.pieces import PairTransform
from contrast.pairs import NOT_OFFERED, Pairs

__all__ = ["SameClassRemoval"]


class SameClassRemoval(PairTransform):
    """Leaves out every negative that is of the query's class: what a method could gain without false negatives.

    It sees labels, so a run with it is an analysis and no self-supervised result. Before a transform that mines or
    mixes, it keeps that from false negatives too. A negative made of two samples goes if either is of the class;
    what is unlabelled stays.

    Source: the oracle of MoCHi, Kalantidis et al., NeurIPS 2020, arXiv 2010.01028, section 3.

    Args:
        labels: one a training sample, (n,), -1 where unlabelled; a configuration's data give them if left out.

    Raises:
        InputError: where there are no labels.

    Example:
        >>> from contrast import in_batch_pairs, losses
        >>> z = torch.eye(3)
        >>> removal = SameClassRemoval(labels=torch.tensor([7, 8, 7]))
        >>> pairs = removal(in_batch_pairs(z, z, torch.arange(3)))
        >>> losses.ContrastiveLoss(losses.InfoNCE()).logits(pairs)[1].count.tolist()
        [2, 4, 2, 2, 4, 2]
    """

    @checked
    def __init__(self, labels: Int[Tensor, " n"] | None = None) -> None:
        super().__init__()
        self.labels = LabelTable("SameClassRemoval", labels)

    def forward(self, pairs: Pairs) -> Pairs:
        query = self.labels(pairs.index)
        rows = self.labels(pairs.negative_index)
        rows = rows[:, None] if rows.ndim == 1 else rows
        same = ((query[:, None, None] == rows[None]) & (rows[None] >= 0)).any(dim=-1)
        most = int(same.sum(dim=1).max()) if same.numel() else 0
        found, columns = same.to(torch.uint8).topk(most, dim=1)
        excluded = torch.where(found > 0, columns, -1)
        if pairs.excluded is not None:
            excluded = torch.cat([pairs.excluded, excluded], dim=1)
        own_index = pairs.own_negative_index
        if own_index is not None:
            own = self.labels(own_index)
            own_index = own_index.masked_fill((own == query[:, None]) & (own >= 0), NOT_OFFERED)
        return dataclasses.replace(pairs, excluded=excluded, own_negative_index=own_index)

    def describe(self) -> str:
        return f"{super().describe()}{f' ({self.labels.note})' if self.labels.note else ''}"
