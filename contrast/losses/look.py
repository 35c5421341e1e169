"""LOOK loss: the nearest neighbours of a query should be of its class."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import LossOutput, PairWeighting, require_pairs, weighted_mean
from contrast.losses.contrastive import LogitLoss
from contrast.losses.labels import LabelledLogits, LabelledNegatives, LabelTable, labelled_logits
from contrast.losses.logits import NegativeLogits, PositiveLogits, positive_logits
from contrast.losses.temperature import Temperature, as_temperature
from contrast.pairs import Pairs

__all__ = ["LOOK"]


class LOOK(LogitLoss):
    """LOOK loss: leave-one-out k-nearest-neighbour classification of each query.

    ``-log( Σ_{j∈kNN, same class} exp l_j / Σ_{j∈kNN} exp l_j )``, with kNN the k nearest labelled rows of the query

    Leave-one-out means that rows of the query's own sample are excluded by their sample index; the query's own positive
    (the key) is not a neighbour either. Unlabelled rows and a queue's random start are not neighbours, because they
    have no class to vote for. If no neighbour is of the query's class, the nearest row of that class is added. If there
    is no such row, or if the query is unlabelled, the query's own positive is added; the loss is then InfoNCE against
    the neighbours. Neighbours are found by the score before the temperature. Each head has its own neighbours, and the
    losses of several heads are summed.

    Args:
        labels: the label of each training sample, (n,), -1 if unlabelled. If omitted, the configuration's data give
            them.
        neighbours: k, at least 1. If fewer rows are offered, all of them are neighbours.
        temperature: τ as a number, or a `Temperature`.
        weighting: computes one weight per query. None gives every query the weight 1.

    Raises:
        InputError: if there are no labels; for neighbours below 1; for pairs with own negatives or extra positives.

    Source: Feng et al., ICLR 2022, arXiv 2110.06014, without public code. The formula was not checked against the
    paper. The number of neighbours, τ and the substitutes for missing neighbours are choices of this project.

    Example:
        >>> from contrast import queue_pairs
        >>> query, rows = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
        >>> pairs = queue_pairs(query, query, rows, torch.tensor([0]), torch.tensor([1, 2, 3]))
        >>> loss = LOOK(labels=torch.tensor([4, 4, 5, 5]), neighbours=2, temperature=1.0)
        >>> loss(pairs).loss.round(decimals=4)  # log(1 + exp(0.6 - 1))
        tensor(0.5130)
    """

    @checked
    def __init__(
        self,
        labels: Int[Tensor, " n"] | None = None,
        neighbours: int = 200,
        temperature: float | Temperature = 0.1,
        weighting: PairWeighting | None = None,
    ) -> None:
        super().__init__()
        if neighbours < 1:
            raise InputError(f"LOOK's neighbours {neighbours} is below 1: say 200")
        self.labels = LabelTable(type(self).__name__, labels)
        self.neighbours = neighbours
        self.temperature = as_temperature(temperature)
        self.weighting = weighting

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            return weighted_mean([self._losses(each) for each in pairs], pairs, self.weighting)

    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        """Logits of the query's own positive, and of the neighbours of other classes.

        The own positive is part of the loss only if no row is of the query's class.
        """
        with torch.autocast(pairs.query.device.type, enabled=False):
            seen, near, alike = self._voters(pairs)
            return positive_logits(pairs, self.temperature), LabelledNegatives(seen, near & ~alike, self.temperature)

    def of_logits(self, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, " b"]:
        with torch.autocast(pairs.query.device.type, enabled=False):
            seen, _, alike = self._voters(pairs)
        attracted = _partition(seen.logit, positive.logit, alike, alike)
        losses = torch.logaddexp(attracted, negatives.logsumexp()) - attracted
        return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)

    def _losses(self, pairs: Pairs) -> Float[Tensor, " b"]:
        seen, near, alike = self._voters(pairs)
        everyone, attracted = (_partition(seen.logit, seen.positive, rows, alike) for rows in (near | alike, alike))
        losses = everyone - attracted
        return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)

    def _voters(self, pairs: Pairs) -> tuple[LabelledLogits, Bool[Tensor, "*h b k"], Bool[Tensor, "*h b k"]]:
        """Logits, the neighbours of each query, and the rows of its class that count.

        The rows that count are the neighbours of the query's class, or the nearest row of the class if no neighbour is.
        """
        seen = labelled_logits(type(self).__name__, pairs, self.labels, self.temperature)
        voting = seen.offered & seen.labelled
        if pairs.placeholder is not None:
            voting = voting & ~pairs.placeholder
        near = self._nearest(seen.score.detach(), voting)
        same = seen.same & voting
        alike = near & same
        lonely = ~alike.any(dim=-1, keepdim=True)
        return seen, near, alike | (lonely & _best(seen.score.detach(), same))

    def _nearest(self, score: Float[Tensor, "*h b k"], voting: Bool[Tensor, "b k"]) -> Bool[Tensor, "*h b k"]:
        ranked = score.masked_fill(~voting, -torch.inf)
        columns = ranked.topk(min(self.neighbours, score.shape[-1]), dim=-1).indices
        return torch.zeros_like(score, dtype=torch.bool).scatter(-1, columns, True) & voting

    def describe(self) -> str:
        return f"{super().describe()}{f' ({self.labels.note})' if self.labels.note else ''}"

    def extra_repr(self) -> str:
        return f"neighbours={self.neighbours}, temperature={self.temperature.extra_repr()}"


def _partition(
    logit: Float[Tensor, "*h b k"], positive: Float[Tensor, "*h b"], rows: Bool[Tensor, "*h b k"],
    alike: Bool[Tensor, "*h b k"],
) -> Float[Tensor, "*h b"]:  # fmt: skip
    """Log-sum-exp over the selected rows, and over the own positive for queries without a row of their class."""
    own = torch.where(alike.any(dim=-1), -torch.inf, positive)[..., None]
    return torch.logsumexp(torch.cat([own, logit.masked_fill(~rows, -torch.inf)], dim=-1), dim=-1)


def _best(score: Float[Tensor, "*h b k"], rows: Bool[Tensor, "b k"]) -> Bool[Tensor, "*h b k"]:
    """The selected row with the highest score, for each query; no row if none is selected."""
    if not score.shape[-1]:
        return torch.zeros_like(score, dtype=torch.bool)
    column = score.masked_fill(~rows, -torch.inf).argmax(dim=-1, keepdim=True)
    return torch.zeros_like(score, dtype=torch.bool).scatter(-1, column, True) & rows
