"""False-negative removal and attraction by similarity, and removal of same-class negatives by label."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import PairTransform
from contrast.losses.candidates import real_scores, rows_at, samples_at
from contrast.losses.labels import LabelTable
from contrast.pairs import NOT_OFFERED, Pairs
from contrast.runs.length import RunLength

__all__ = ["FalseNegativeAttraction", "FalseNegativeRemoval", "SameClassRemoval"]


class FalseNegativeRemoval(PairTransform):
    """False-negative removal: exclude the nearest negatives of each query if their score is above a threshold.

    ``negatives(q) \\ { n among the m nearest : q · n > t }``

    Rows that are so similar are probably of the query's class. Only real rows are candidates: shared rows and the rows
    that a bank mined. Mixes and a queue's placeholders stay. All heads decide together, by their mean score.

    Args:
        most: m, the largest number of rows that a query may lose.
        threshold: t, the score above which a row is excluded, in [-1, 1] for unit rows.
        start_epoch: the first epoch, counted from 0, in which rows are excluded. Early scores say little.

    Raises:
        InputError: if most is below 1, or start_epoch is negative.

    Source: false-negative elimination, Huynh et al., WACV 2022, arXiv 2011.11765, section 3.2. The paper compares with
    further views of the query's image; here the query's own score decides.

    Example:
        >>> from contrast import in_batch_pairs, losses
        >>> z = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
        >>> pairs = FalseNegativeRemoval(most=2, threshold=0.7)(in_batch_pairs(z, z, torch.arange(3)))
        >>> losses.ContrastiveLoss(losses.InfoNCE()).logits(pairs)[1].count.tolist()
        [2, 2, 4, 2, 2, 4]
    """

    @checked
    def __init__(self, most: int = 10, threshold: float = 0.9, start_epoch: int = 0) -> None:
        super().__init__()
        if most < 1 or start_epoch < 0:
            raise InputError(f"{type(self).__name__} of most={most} start_epoch={start_epoch}: give 1 and 0 or more")
        self.most, self.threshold, self.start_epoch, self._epoch = most, threshold, start_epoch, start_epoch

    def begin_step(self, epoch: int, step: int) -> None:
        self._epoch = epoch

    def never_acts(self, run: RunLength) -> str | None:
        return run.before_epoch(type(self).__name__, self.start_epoch, "it will never take a negative out")

    @torch.no_grad()
    def forward(self, pairs: Pairs) -> Pairs:
        if self._epoch < self.start_epoch:
            return pairs
        return pairs.without(_nearest_above(pairs, self.most, self.threshold))

    def extra_repr(self) -> str:
        return f"most={self.most}, threshold={self.threshold:g}, start_epoch={self.start_epoch}"


class FalseNegativeAttraction(FalseNegativeRemoval):
    """False-negative attraction: the nearest negatives above a threshold become extra positives.

    It chooses the same rows as `FalseNegativeRemoval`. The loss of a query is then the mean of its objective over all
    its positives, each against the remaining negatives. Gradient reaches extra positives from the batch, but not those
    from a bank.

    Args:
        most: m, the largest number of positives that a query may gain.
        threshold: t, the score above which a row becomes a positive.
        start_epoch: the first epoch, counted from 0, in which rows become positives.

    Raises:
        InputError: if most is below 1, or start_epoch is negative; for shared negatives that are mixes of two samples
            (put this transform before the one that mixes); for pairs that already have extra positives.

    Source: false-negative attraction, Huynh et al., WACV 2022, arXiv 2011.11765, section 3.2.
    """

    def forward(self, pairs: Pairs) -> Pairs:
        if self._epoch < self.start_epoch:
            return pairs
        if pairs.negative_index.ndim == 2:
            raise InputError(
                "FalseNegativeAttraction behind a transform that mixes shared negatives would make mixes positives: "
                "put it first in model.loss.transforms"
            )
        if pairs.extra_positives is not None:
            raise InputError("FalseNegativeAttraction takes pairs without extra positives: list it once")
        with torch.no_grad():
            columns = _nearest_above(pairs, self.most, self.threshold)
        place = columns.clamp(min=0)
        rows = rows_at(pairs, place.expand(*pairs.query.shape[:-2], *place.shape))
        extra = torch.where(columns >= 0, samples_at(pairs, place), NOT_OFFERED)
        return dataclasses.replace(pairs.without(columns), extra_positives=rows, extra_positive_index=extra)


def _nearest_above(pairs: Pairs, most: int, threshold: float) -> Int[Tensor, "b m"]:
    """Columns of the nearest real negatives with a mean score above the threshold; -1 where there are fewer.

    Own negatives are counted after the shared negatives.
    """
    score = real_scores(pairs)
    score = score.mean(dim=0) if score.ndim == 3 else score
    best, column = score.topk(min(most, score.shape[1]), dim=1)
    return torch.where((best > threshold) & ~best.isneginf(), column, -1)


class SameClassRemoval(PairTransform):
    """Oracle removal of false negatives: exclude all negatives with the query's label.

    It shows how much a method could gain without false negatives. It reads labels, so a run with it is an analysis and
    not a self-supervised result. Before a transform that mines or mixes, it also keeps false negatives out of the mined
    rows and the mixes. A negative made of two samples is excluded if either sample is of the query's class. Unlabelled
    negatives stay.

    Args:
        labels: the label of each training sample, (n,), -1 if unlabelled. If omitted, the configuration's data give
            them.

    Raises:
        InputError: if there are no labels.

    Source: the oracle of MoCHi, Kalantidis et al., NeurIPS 2020, arXiv 2010.01028, section 3.

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
        self.labels = LabelTable(type(self).__name__, labels)

    def forward(self, pairs: Pairs) -> Pairs:
        query = self.labels(pairs.index)
        rows = self.labels(pairs.negative_index)
        rows = rows[:, None] if rows.ndim == 1 else rows
        same = ((query[:, None, None] == rows[None]) & (rows[None] >= 0)).any(dim=-1)
        if pairs.own_negative_index is not None:
            own = self.labels(pairs.own_negative_index)
            same = torch.cat([same, (own == query[:, None]) & (own >= 0)], dim=1)
        most = int(same.sum(dim=1).max()) if same.numel() else 0
        found, columns = same.to(torch.uint8).topk(most, dim=1)
        return pairs.without(torch.where(found > 0, columns, -1))

    def describe(self) -> str:
        return f"{super().describe()}{f' ({self.labels.note})' if self.labels.note else ''}"
