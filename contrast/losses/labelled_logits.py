"""What the supervised losses see: each query's logits, and which rows are offered and of its class."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from contrast.errors import InputError
from contrast.losses.labels import LabelTable
from contrast.losses.left_out import left_out
from contrast.losses.logits import positive_logits
from contrast.losses.temperature import Temperature
from contrast.losses.wide import wide
from contrast.pairs import Pairs

__all__ = ["LabelledLogits", "labelled_logits"]


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
