"""Labels in losses: label lookup, same-class masks and logits of labelled rows."""

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
from contrast.losses.base import at_least_float32
from contrast.losses.exclusion import left_out
from contrast.losses.logits import NegativeLogits, Tile, positive_logits
from contrast.losses.temperature import Temperature
from contrast.pairs import Pairs

__all__ = ["LabelTable", "LabelledLogits", "LabelledNegatives", "labelled_logits"]

_log = logging.getLogger(__name__)


class LabelTable(nn.Module):
    """Lookup of the labels of training samples; -1 means unlabelled.

    The sample -1 (unknown) is unlabelled too.

    Args:
        owner: name of the loss or transform, for error messages.
        labels: the label of each sample, integers of shape (n,).

    Attributes:
        note: a warning if the labels are all the same, all different or all missing; otherwise empty. It is also logged
            once.

    Raises:
        InputError: if there are no labels; for another shape or dtype; for a label below -1.

    Example:
        >>> LabelTable("SupCon", torch.tensor([5, 3]))(torch.tensor([1, 0, -1]))
        tensor([ 3,  5, -1])
    """

    table: Tensor

    def __init__(self, owner: str, labels: Any) -> None:  # any type: check_tensors refuses invalid labels
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
        # Not in checkpoints: labels belong to the data, and every run reads them from the data.
        self.register_buffer("table", labels.clone(), persistent=False)

    def forward(self, index: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        known = index >= 0
        if index.numel() and int(index.max()) >= len(self.table):
            raise InputError(f"there is no label for sample {int(index.max())} among {len(self.table)}")
        return torch.where(known, self.table[index.clamp(min=0)], -1)


def _note(labels: Int[Tensor, " n"]) -> str:
    """Warning, in one sentence, if a loss cannot learn from these labels; otherwise empty."""
    known = labels[labels >= 0]
    classes = len(torch.unique(known))
    if classes == 0:
        return f"none of {len(labels)} samples has a label, so labels change nothing"
    if classes == len(known) and len(known) > 1:
        return f"all {classes} labels are different, so no two samples share a class and labels change nothing"
    if classes == 1:
        return f"all {len(known)} labelled samples are of class {int(known[0])}, so no sample has another class"
    return ""


@dataclass(frozen=True)
class LabelledLogits:
    """Logits of queries with their own positives and with the shared rows, and masks of the same class.

    Attributes:
        positive: logit of each query with its own positive, (*h, b).
        score: score of each query with each shared row, before the temperature, (*h, b, k).
        logit: logit of each query with each shared row, after the temperature, (*h, b, k).
        offered: True where a shared row is of another sample and not in `excluded`, (b, k).
        same: True where an offered row is of the query's class, (b, k). False if the query or the row has no label.
        labelled: True where a shared row has a label, (k,).
    """

    positive: Float[Tensor, "*h b"]
    score: Float[Tensor, "*h b k"]
    logit: Float[Tensor, "*h b k"]
    offered: Bool[Tensor, "b k"]
    same: Bool[Tensor, "b k"]
    labelled: Bool[Tensor, " k"]


def labelled_logits(owner: str, pairs: Pairs, labels: LabelTable, temperature: Temperature) -> LabelledLogits:
    """Logits and same-class masks of these pairs; the whole (b, k) matrix is held in memory.

    Args:
        owner: name of the loss, for error messages.
        pairs: pairs without own negatives and extra positives.
        labels: labels of the training samples.
        temperature: maps scores to logits.

    Raises:
        InputError: if there are own negatives or extra positives.
    """
    if pairs.own_negatives is not None or pairs.extra_positives is not None:
        raise InputError(
            f"{owner} finds positives among shared rows by label: it takes no own_negatives and no extra_positives"
        )
    query, rows = at_least_float32(pairs.query), at_least_float32(pairs.negatives)
    score = query @ rows.transpose(-1, -2)
    logit = temperature(score, query[..., :, None, :], rows[..., None, :, :])
    offered = ~left_out(pairs, 0, rows.shape[-2])
    of_query, of_rows = labels(pairs.index), labels(pairs.negative_index)
    of_rows = of_rows[:, None] if of_rows.ndim == 1 else of_rows
    # A row made of two samples is of a class only if both samples are.
    same = (of_query[:, None, None] == of_rows[None]).all(dim=-1) & (of_query[:, None] >= 0)
    labelled = (of_rows >= 0).all(dim=-1)
    return LabelledLogits(positive_logits(pairs, temperature).logit, score, logit, offered, same & offered, labelled)


class LabelledNegatives(NegativeLogits):
    """Negatives that are a subset of the shared rows, chosen for each query and head.

    Args:
        seen: scores and logits with all shared rows.
        offered: mask of the rows that are negatives, (*h, b, k).
        temperature: the temperature that mapped the scores to logits.
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
