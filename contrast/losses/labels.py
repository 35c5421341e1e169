"""Labels in losses: same-class pairs, labelled logits and labelled negatives."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from contrast.checks import check_tensors
from contrast.errors import InputError
from contrast.losses.base import wide
from contrast.losses.exclusion import left_out
from contrast.losses.logits import NegativeLogits, Tile, positive_logits
from contrast.losses.temperature import Temperature
from contrast.pairs import Pairs

__all__ = ["LabelTable", "LabelledLogits", "LabelledNegatives", "labelled_logits"]

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


@dataclass(frozen=True)
class LabelledLogits:
    """Logits of queries with their own positives and with the shared rows, which may be of their class.

    Attributes:
        positive: of each query with its own positive, (*h, b).
        score, logit: of each query with each shared row, (*h, b, k), before and after the temperature.
        offered: which shared rows a query is offered, (b, k): those of other samples that `excluded` does not name.
        same: which of them are of the query's class, (b, k); none of them where it or they have no label.
        labelled: which shared rows have a label, (k,).
    """

    positive: Float[Tensor, "*h b"]
    score: Float[Tensor, "*h b k"]
    logit: Float[Tensor, "*h b k"]
    offered: Bool[Tensor, "b k"]
    same: Bool[Tensor, "b k"]
    labelled: Bool[Tensor, " k"]


def labelled_logits(owner: str, pairs: Pairs, labels: LabelTable, temperature: Temperature) -> LabelledLogits:
    """Logits and classes of these pairs; the whole (b, k) matrix is held.

    Args:
        owner: the loss, for messages.
        pairs: without own negatives and extra positives.
        labels: of the training samples.
        temperature: scores to logits.

    Raises:
        InputError: where there are own negatives or extra positives.
    """
    if pairs.own_negatives is not None or pairs.extra_positives is not None:
        raise InputError(
            f"{owner} finds positives among shared rows by label: it takes no own_negatives and no extra_positives"
        )
    query, rows = wide(pairs.query), wide(pairs.negatives)
    score = query @ rows.transpose(-1, -2)
    logit = temperature(score, query[..., :, None, :], rows[..., None, :, :])
    offered = ~left_out(pairs, 0, rows.shape[-2])
    of_query, of_rows = labels(pairs.index), labels(pairs.negative_index)
    of_rows = of_rows[:, None] if of_rows.ndim == 1 else of_rows
    # A row that is made of two samples is of a class if both are.
    same = (of_query[:, None, None] == of_rows[None]).all(dim=-1) & (of_query[:, None] >= 0)
    labelled = (of_rows >= 0).all(dim=-1)
    return LabelledLogits(positive_logits(pairs, temperature).logit, score, logit, offered, same & offered, labelled)


class LabelledNegatives(NegativeLogits):
    """A part of the shared rows, chosen for each query and head.

    Args:
        seen: scores and logits with all shared rows.
        offered: which of them are negatives, (*h, b, k).
        temperature: what made logits of scores.
    """

    def __init__(self, seen: LabelledLogits, offered: Bool[Tensor, "*h b k"], temperature: Temperature) -> None:
        self._seen, self._temperature = seen, temperature
        self._offered = offered.expand_as(seen.score)
        self.count = self._offered.sum(dim=-1)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        return torch.logsumexp((self._seen.logit * scale).masked_fill(~self._offered, -torch.inf), dim=-1)

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        score = self._seen.score.masked_fill(~self._offered, -torch.inf)
        if not score.shape[-1]:
            nothing = score.new_full(score.shape[:-1], -torch.inf)
            return nothing, nothing
        best, column = score.max(dim=-1, keepdim=True)
        logit = self._seen.logit.gather(-1, column).masked_fill(best.isneginf(), -torch.inf)
        return best.squeeze(-1), logit.squeeze(-1)

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._temperature.of_score(self._seen.score.new_tensor(score))

    def tiles(self) -> Iterator[Tile]:
        yield Tile(self._seen.score.detach(), self._seen.logit.detach(), self._offered, own=False, start=0)
