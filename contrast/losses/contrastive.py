"""Contrastive loss with four slots: transforms, temperature, objective and weighting."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import (
    Loss,
    LossOutput,
    PairTransform,
    PairWeighting,
    Piece,
    at_least_float32,
    require_pairs,
    weighted_mean,
)
from contrast.losses.logits import NegativeLogits, PositiveLogits, Tile, negative_logits, positive_logits
from contrast.losses.objectives import Objective
from contrast.losses.temperature import NoLogitError, Temperature, as_temperature
from contrast.pairs import NOT_OFFERED, Pairs

__all__ = ["ContrastiveLoss", "LogitLoss", "mean_over_positives"]


class LogitLoss(Loss, ABC):
    """Base class of losses that are a function of positive logits and of sums over negative logits.

    Observers see the negatives of such a loss, and the gradient on each of them. Of any other `Loss` they see the
    positives only.

    Attributes:
        temperature: maps scores to logits.
    """

    uses_negatives = True

    temperature: Temperature

    @abstractmethod
    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        """Logits of the positives and negatives.

        Observers call it under no_grad.

        Args:
            pairs: pairs after the transforms.
        """

    @abstractmethod
    def of_logits(self, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> Float[Tensor, " b"]:
        """Loss of each query before weighting, computed from the results of `logits`.

        An implementation must take everything it needs of the negatives from the methods of `negatives`. Observers rely
        on this: they compute the gradient on one negative's logit from the gradients on the returned values.

        Args:
            pairs: pairs after the transforms.
            positive: logits of the positives.
            negatives: logits of the negatives.
        """


def mean_over_positives(
    objective: Objective, temperature: Temperature, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits
) -> Float[Tensor, "*h b"]:
    """Mean of an objective over several positives of each query.

    ``1/(1 + p) Σ_j objective(l⁺_j, negatives)``, over the query's positive and its p extra positives.

    The objective is called once for each j. A query without a j-th extra positive takes part in that call with its own
    positive, so that an objective that compares queries, such as DCLW, has a value for every query. The result of that
    query is then dropped.
    """
    kept = _Kept(negatives)
    total = objective(positive, kept)
    extra, index = pairs.extra_positives, pairs.extra_positive_index
    assert extra is not None
    assert index is not None
    present = index != NOT_OFFERED
    for place in range(index.shape[1]):
        here = present[:, place]
        rows = torch.where(here[:, None], at_least_float32(extra[..., place, :]), at_least_float32(pairs.positive))
        of_row = positive_logits(dataclasses.replace(pairs, positive=rows), temperature)
        total = total + objective(of_row, kept).masked_fill(~here, 0.0)
    mean: Tensor = total / (1 + present.sum(dim=1))
    return mean


class _Kept(NegativeLogits):
    """Negatives that cache each answer, because all positives of a query share the same negatives."""

    def __init__(self, negatives: NegativeLogits) -> None:
        self._negatives, self.count = negatives, negatives.count
        self._sums: dict[float, Tensor] = {}
        self._hardest: tuple[Tensor, Tensor] | None = None

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        if scale not in self._sums:
            self._sums[scale] = self._negatives.logsumexp(scale)
        return self._sums[scale]

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        if self._hardest is None:
            self._hardest = self._negatives.hardest()
        return self._hardest

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._negatives.logit_of(score)

    def tiles(self) -> Iterator[Tile]:
        return self._negatives.tiles()


class ContrastiveLoss(LogitLoss):
    """Contrastive loss from an objective, a temperature, transforms of the pairs and sample weights.

    ``L = mean_b weight_b · Σ_h objective(positive logit, negative logits)``, with
    ``logit = temperature(score(transform(pairs)))``

    For a query with extra positives (`Pairs.extra_positives`), the objective is averaged over all of its positives.

    Args:
        objective: computes one loss per query from the logits.
        temperature: τ as a number, or a `Temperature`.
        transforms: transforms of the pairs, applied in the given order.
        weighting: computes one weight per query. None gives every query the weight 1.

    Example:
        >>> from contrast import in_batch_pairs
        >>> from contrast.losses import DCL
        >>> loss = ContrastiveLoss(DCL(), temperature=0.1)
        >>> z = torch.nn.functional.normalize(torch.randn(2, 8, 16), dim=-1)
        >>> loss(in_batch_pairs(z[0], z[1], torch.arange(8))).losses.shape
        torch.Size([16])
    """

    @checked
    def __init__(
        self,
        objective: Objective,
        temperature: float | Temperature = 0.1,
        transforms: Sequence[PairTransform] = (),
        weighting: PairWeighting | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.temperature = as_temperature(temperature)
        self.transforms = nn.ModuleList(transforms)
        self.weighting = weighting

    def logits(self, pairs: Pairs) -> tuple[PositiveLogits, NegativeLogits]:
        with torch.autocast(pairs.query.device.type, enabled=False):
            return positive_logits(pairs, self.temperature), negative_logits(pairs, self.temperature)

    @checked
    def forward(self, *pairs: Pairs) -> LossOutput:
        require_pairs(type(self).__name__, pairs)
        _refuse_one_sample(type(self.objective).__name__, pairs)
        # Autocast is off for the whole loss: transforms compute scores too, and tiles are computed when an objective
        # asks.
        with torch.autocast(pairs[0].query.device.type, enabled=False):
            transformed = tuple(self._transform(each) for each in pairs)
            return weighted_mean(
                [self.of_logits(each, *self.logits(each)) for each in transformed], transformed, self.weighting
            )

    def describe(self) -> str:
        pieces = [*self.transforms, *([] if self.weighting is None else [self.weighting])]
        others = [piece.describe() for piece in pieces if isinstance(piece, Piece)]
        return ", ".join([self.objective.describe(), f"temperature {self.temperature.describe()}", *others])

    def _transform(self, pairs: Pairs) -> Pairs:
        for transform in self.transforms:
            pairs = transform(pairs)
        return pairs

    def of_logits(self, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> Float[torch.Tensor, " b"]:
        losses: torch.Tensor
        try:
            if pairs.extra_positives is None:
                losses = self.objective(positive, negatives)
            else:
                losses = mean_over_positives(self.objective, self.temperature, pairs, positive, negatives)
        except NoLogitError as error:
            raise InputError(
                f"{type(self.objective).__name__} asks for the logit of a score without embeddings, which "
                f"{type(self.temperature).__name__} does not have: take InfoNCE, DCL or HardestNegative with it"
            ) from error
        return losses if losses.ndim == 1 else losses.flatten(0, -2).sum(dim=0)


def _refuse_one_sample(owner: str, several: Sequence[Pairs]) -> None:
    """Refuse a batch of one sample: all of its rows are excluded as negatives, and nothing is learned.

    Only the pairs of a training step are checked. Observers ask objectives for the losses of a few queries, none of
    which needs to have a negative, for example after false-negative removal.
    """
    for pairs in several:
        rows, own = pairs.negatives.shape[-2], pairs.own_negatives
        if rows > 2 or own is not None or pairs.index.device.type != "cpu":
            continue
        if bool((pairs.index == pairs.index[0]).all()) and bool((pairs.negative_index == pairs.index[0]).all()):
            raise InputError(
                f"{owner}: query 0 has no negative, because all rows are of one sample: give 2 samples or more"
            )
