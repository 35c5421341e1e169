"""Feature transformation (FT): extrapolation of positives and interpolation of negatives."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import PairTransform, at_least_float32
from contrast.losses.candidates import BetaQuantile, query_draws, row_identity, row_permutation
from contrast.pairs import Pairs
from contrast.randomness import Purpose, uniform
from contrast.runs.length import RunLength

__all__ = ["NegativeInterpolation", "PositiveExtrapolation", "extrapolate", "interpolate"]

normalize = torch.nn.functional.normalize


class FeatureTransformation(PairTransform, ABC):
    """Base class of the two feature transformations: random coefficients, first epoch and unit length."""

    @checked
    def __init__(self, alpha: float, each: str, start_epoch: int, renormalise: bool, seed: int) -> None:
        super().__init__()
        self.quantile = BetaQuantile(alpha)
        self.alpha, self.each, self.renormalise, self.seed = alpha, each, renormalise, seed
        self.start_epoch = self._epoch = _not_negative(start_epoch)
        self._step = 0

    def begin_step(self, epoch: int, step: int) -> None:
        self._epoch, self._step = epoch, step

    def forward(self, pairs: Pairs) -> Pairs:
        return pairs if self._epoch < self.start_epoch else self._transform(pairs)

    def never_acts(self, run: RunLength) -> str | None:
        return run.before_epoch(type(self).__name__, self.start_epoch, "it will never change a pair")

    @abstractmethod
    def _transform(self, pairs: Pairs) -> Pairs:
        """Transform the pairs; called from `start_epoch` on."""

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}, each={self.each}, start_epoch={self.start_epoch}, renormalise={self.renormalise}"


class PositiveExtrapolation(FeatureTransformation):
    """Positive extrapolation (FT): move the query and its positive apart to make a harder positive pair.

    ``q′ = λ q + (1 - λ) k``, ``k′ = λ k + (1 - λ) q``, ``λ = 1 + Beta(α, α)``

    Both rows move apart along the line through them. The score falls: ``s′ = s - Σ_d λ_d (λ_d - 1)(q_d - k_d)²``, and
    may leave [-1, 1]. Gradient reaches q through both q′ and k′. A bank stores the original key.

    Args:
        alpha: α. λ lies between 1 and 2, and concentrates around 1.5 as α grows.
        each: what has its own λ: a `step` (the command in the authors' README), a `pair`, or a `dimension` of a pair.
        start_epoch: the first epoch, counted from 0, in which pairs are changed.
        renormalise: whether to normalise q′ and k′ to unit length.
        seed: seed of the draws, which are functions of (seed, step, sample, view). If omitted, a configuration uses the
            run's seed.

    Raises:
        InputError: if alpha is not above 0, start_epoch is negative, or `each` is none of the three words.

    Source: Zhu et al., ICCV 2021, arXiv 2108.02982. As in the authors' code, the rows are not normalised to unit length
    again, and q′ is also the query for the negatives.

    Example:
        >>> q, k = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> extrapolate(q, k, torch.tensor(1.5))
        (tensor([[ 1.5000, -0.5000]]), tensor([[-0.5000,  1.5000]]))
    """

    @checked
    def __init__(
        self,
        alpha: float = 2.0,
        each: Literal["step", "pair", "dimension"] = "step",
        start_epoch: int = 0,
        renormalise: bool = False,
        seed: int = 0,
    ) -> None:
        require_one_of(each, ("step", "pair", "dimension"))
        super().__init__(alpha, each, start_epoch, renormalise, seed)

    def _transform(self, pairs: Pairs) -> Pairs:
        query, positive = at_least_float32(pairs.query), at_least_float32(pairs.positive)
        step = 1 + self.quantile(self._uniforms(pairs)).to(query.dtype)
        query, positive = extrapolate(query, positive, step)
        if self.renormalise:
            query, positive = normalize(query, dim=-1), normalize(positive, dim=-1)
        return dataclasses.replace(pairs, query=query, positive=positive)

    def _uniforms(self, pairs: Pairs) -> Tensor:
        keys = (self.seed, self._step, Purpose.POSITIVE_EXTRAPOLATION)
        if self.each == "step":
            return uniform(keys, pairs.index.new_zeros(1), 1)
        if self.each == "pair":
            return query_draws(pairs, keys, 1)
        return _by_dimension(query_draws(pairs, keys, _width(pairs.query)), pairs.query)


class NegativeInterpolation(FeatureTransformation):
    """Negative interpolation (FT): mix each shared negative with another one.

    ``Q′ = λ Q + (1 - λ) Q[permutation]``, ``λ ~ Beta(α, α)``

    Each mix belongs to two samples, and a query excludes it if either is its own sample. Gradient reaches in-batch
    negatives through both of their positions in Q′.

    Args:
        alpha: α. λ concentrates around 0.5 as α grows.
        each: what has its own λ: a `step`, a `row` of the negatives, or a `dimension` of a row.
        start_epoch: the first epoch, counted from 0, in which negatives are changed.
        renormalise: whether to normalise the rows to unit length.
        seed: seed of the permutation and the draws, which are functions of (seed, step, sample). If omitted, a
            configuration uses the run's seed.

    Raises:
        InputError: if alpha is not above 0, start_epoch is negative, or `each` is none of the three words; for
            negatives that are mixed already.

    Source: Zhu et al., ICCV 2021, arXiv 2108.02982. The authors' code does not normalise the rows to unit length
    either.

    Example:
        >>> interpolate(torch.eye(2), torch.tensor([1, 0]), torch.tensor(0.75))
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """

    @checked
    def __init__(
        self,
        alpha: float = 1.6,
        each: Literal["step", "row", "dimension"] = "step",
        start_epoch: int = 0,
        renormalise: bool = False,
        seed: int = 0,
    ) -> None:
        require_one_of(each, ("step", "row", "dimension"))
        super().__init__(alpha, each, start_epoch, renormalise, seed)

    def _transform(self, pairs: Pairs) -> Pairs:
        if pairs.negative_index.ndim == 2:
            raise InputError("NegativeInterpolation got negatives that are mixes already: name it once")
        keys = (self.seed, self._step, Purpose.NEGATIVE_INTERPOLATION)
        identity = row_identity(pairs.negative_index)
        permutation = row_permutation(identity, keys)
        rows = at_least_float32(pairs.negatives)
        step = self.quantile(self._uniforms(rows, identity, keys)).to(rows.dtype)
        negatives = interpolate(rows, permutation, step)
        placeholder = pairs.placeholder
        return dataclasses.replace(
            pairs,
            negatives=normalize(negatives, dim=-1) if self.renormalise else negatives,
            negative_index=torch.stack([pairs.negative_index, pairs.negative_index[permutation]], dim=1),
            placeholder=None if placeholder is None else placeholder | placeholder[permutation],
            excluded=None if pairs.excluded is None else _excluded_with(pairs.excluded, permutation),
        )

    def _uniforms(self, negatives: Tensor, identity: Tensor, keys: tuple[int, ...]) -> Tensor:
        if self.each == "step":
            return uniform((*keys, 1), identity.new_zeros(1), 1)
        if self.each == "row":
            return uniform((*keys, 1), identity, 1)
        return _by_dimension(uniform((*keys, 1), identity, _width(negatives)), negatives)


@checked
def extrapolate(
    query: Float[Tensor, "*h b d"], key: Float[Tensor, "*h b d"], step: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "*h b d"], Float[Tensor, "*h b d"]]:
    """Positive extrapolation of FT: ``(λ q + (1 - λ) k, λ k + (1 - λ) q)``.

    Args:
        query: q, (*h, b, d).
        key: k, (*h, b, d).
        step: λ, a scalar or a shape that broadcasts against the rows, such as (b, 1) or (b, d). λ = 1 changes nothing;
            above 1 the pair moves apart.

    Returns:
        The extrapolated queries and keys.

    Source: Zhu et al., ICCV 2021, arXiv 2108.02982.
    """
    return step * query + (1 - step) * key, step * key + (1 - step) * query


@checked
def interpolate(
    keys: Float[Tensor, "*h k d"], permutation: Int[Tensor, " k"], step: Float[Tensor, "..."]
) -> Float[Tensor, "*h k d"]:
    """Negative interpolation of FT: ``λ Q + (1 - λ) Q[permutation]``.

    Args:
        keys: Q, (*h, k, d).
        permutation: the partner of each row, (k,).
        step: λ, a scalar or a shape that broadcasts against the rows, such as (k, 1) or (k, d).

    Source: Zhu et al., ICCV 2021, arXiv 2108.02982.
    """
    return step * keys + (1 - step) * keys[..., permutation, :]


def _by_dimension(draws: Tensor, rows: Tensor) -> Tensor:
    """One draw for each dimension of each head: reshape (b, h·d) to (*h, b, d)."""
    *heads, count, width = rows.shape
    return draws.view(count, *heads, width).movedim(0, -2)


def _width(rows: Tensor) -> int:
    """Number of dimensions of a row, over all heads."""
    return rows.shape[-1] * (1 if rows.ndim == 2 else rows.shape[0])


def _excluded_with(excluded: Tensor, permutation: Tensor) -> Tensor:
    """The excluded columns, extended by the columns that are mixed from an excluded row."""
    made_of = permutation.argsort()[excluded.clamp(min=0)]
    return torch.cat([excluded, torch.where(excluded < 0, excluded, made_of)], dim=1)


def _not_negative(start_epoch: int) -> int:
    if start_epoch < 0:
        raise InputError(f"start_epoch {start_epoch} is negative: epochs count from 0")
    return start_epoch


def require_one_of(each: str, known: tuple[str, ...]) -> None:
    if each not in known:
        raise InputError(f"each {each!r} must be one of {', '.join(known)}: it sets what has its own coefficient")
