"""SupCon: every row of the query's class is a positive."""

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
    """SupCon: ``-1/|P| Σ_{p∈P} log( exp l_p / Σ_{a∈A} exp l_a )``, P the query's positives, A all rows but itself.

    P is the query's own positive and every shared row whose label is the query's; A is the own positive and every
    shared row that is offered. On in-batch pairs this is the paper's loss over the 2N rows; on a queue, A is the key
    and the queue. Rows of the query's own sample are left out by index, as everywhere. An unlabelled query (-1) has
    its own positive alone, which makes its loss InfoNCE. Several heads are summed.

    Source: Khosla et al., NeurIPS 2020, arXiv 2004.11362, eq. 2 (L_out), mean over the queries. The authors' code
    multiplies it with τ/0.07.

    Args:
        labels: one a training sample, (n,), -1 where unlabelled; a configuration's data give them if left out.
        temperature: τ as a number, or a `Temperature`.
        weighting: one weight a query; None weighs all alike.

    Raises:
        InputError: where there are no labels; for pairs with own negatives or extra positives.

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
        self.labels = LabelTable("SupCon", labels)
        self.temperature = as_temperature(temperature)
        self.weighting = weighting

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            return weighted_mean([self._losses(each) for each in pairs], pairs, self.weighting)

    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        """The own positive's, and those of the rows in A that are not in P."""
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
        return labelled_logits("SupCon", pairs, self.labels, self.temperature)

    def describe(self) -> str:
        return f"{super().describe()}{f' ({self.labels.note})' if self.labels.note else ''}"

    def extra_repr(self) -> str:
        return f"temperature={self.temperature.extra_repr()}"


def _partition(seen: LabelledLogits, rows: Bool[Tensor, "b k"]) -> Float[Tensor, "*h b"]:
    """The logarithm of the sum over the own positive and these rows."""
    everyone = torch.cat([seen.positive[..., None], seen.logit.masked_fill(~rows, -torch.inf)], dim=-1)
    return torch.logsumexp(everyone, dim=-1)


def _attracted(seen: LabelledLogits, partition: Float[Tensor, "*h b"]) -> Float[Tensor, " b"]:
    """Each query's loss, from the logarithm of its sum over A."""
    attracted = seen.positive + seen.logit.masked_fill(~seen.same, 0).sum(dim=-1)
    losses = partition - attracted / (1 + seen.same.sum(dim=-1))
    return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)
