"""Supervised contrastive loss (SupCon): all rows of the query's class are positives."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.losses.base import LossOutput, PairWeighting, require_pairs, weighted_mean
from contrast.losses.contrastive import LogitLoss
from contrast.losses.labels import LabelledLogits, LabelledNegatives, LabelTable, labelled_logits
from contrast.losses.logits import NegativeLogits, PositiveLogits, positive_logits
from contrast.losses.temperature import Temperature, as_temperature
from contrast.pairs import Pairs

__all__ = ["SupCon"]


class SupCon(LogitLoss):
    """Supervised contrastive loss (SupCon): all rows with the query's label are positives.

    ``-1/|P| Σ_{p∈P} log( exp l_p / Σ_{a∈A} exp l_a )``

    P holds the query's own positive and every shared row with the query's label. A holds the query's own positive and
    every shared row that is not excluded. On in-batch pairs, this is the paper's loss over the 2N rows. On a queue, A
    is the key and the queue. Rows of the query's own sample are excluded by their sample index, as in every loss. An
    unlabelled query (-1) has only its own positive, so its loss is InfoNCE. The losses of several heads are summed.

    Args:
        labels: the label of each training sample, (n,), -1 if unlabelled. If omitted, the configuration's data give
            them.
        temperature: τ as a number, or a `Temperature`.
        weighting: computes one weight per query. None gives every query the weight 1.

    Raises:
        InputError: if there are no labels; for pairs with own negatives or extra positives.

    Source: Khosla et al., NeurIPS 2020, arXiv 2004.11362, eq. 2 (L_out), mean over the queries. The authors' code
    multiplies the loss by τ/0.07.

    Example:
        >>> from contrast import in_batch_pairs
        >>> z = torch.eye(2)
        >>> loss = SupCon(labels=torch.tensor([3, 3]), temperature=1.0)
        >>> loss(in_batch_pairs(z, z, torch.arange(2))).losses.round(decimals=4)  # log(e + 2) - 1/3 each
        tensor([1.2181, 1.2181, 1.2181, 1.2181])
    """

    @checked
    def __init__(
        self,
        labels: Int[Tensor, " n"] | None = None,
        temperature: float | Temperature = 0.1,
        weighting: PairWeighting | None = None,
    ) -> None:
        super().__init__()
        self.labels = LabelTable(type(self).__name__, labels)
        self.temperature = as_temperature(temperature)
        self.weighting = weighting

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            return weighted_mean([self._losses(each) for each in pairs], pairs, self.weighting)

    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        """Logits of the query's own positive, and of the rows in A that are not in P."""
        with torch.autocast(pairs.query.device.type, enabled=False):
            seen = self._seen(pairs)
            negatives = LabelledNegatives(seen, seen.offered & ~seen.same, self.temperature)
            return positive_logits(pairs, self.temperature), negatives

    def of_logits(self, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, " b"]:
        with torch.autocast(pairs.query.device.type, enabled=False):
            seen = dataclasses.replace(self._seen(pairs), positive=positive.logit)
        return _attracted(seen, torch.logaddexp(_partition(seen, seen.same), negatives.logsumexp()))

    def _losses(self, pairs: Pairs) -> Float[Tensor, " b"]:
        seen = self._seen(pairs)
        return _attracted(seen, _partition(seen, seen.offered))

    def _seen(self, pairs: Pairs) -> LabelledLogits:
        return labelled_logits(type(self).__name__, pairs, self.labels, self.temperature)

    def describe(self) -> str:
        return f"{super().describe()}{f' ({self.labels.note})' if self.labels.note else ''}"

    def extra_repr(self) -> str:
        return f"temperature={self.temperature.extra_repr()}"


def _partition(seen: LabelledLogits, rows: Bool[Tensor, "b k"]) -> Float[Tensor, "*h b"]:
    """Log-sum-exp over the query's own positive and the selected rows, (*h, b)."""
    everyone = torch.cat([seen.positive[..., None], seen.logit.masked_fill(~rows, -torch.inf)], dim=-1)
    return torch.logsumexp(everyone, dim=-1)


def _attracted(seen: LabelledLogits, partition: Float[Tensor, "*h b"]) -> Float[Tensor, " b"]:
    """Loss of each query, from its log-sum-exp over A."""
    attracted = seen.positive + seen.logit.masked_fill(~seen.same, 0).sum(dim=-1)
    losses = partition - attracted / (1 + seen.same.sum(dim=-1))
    return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)
