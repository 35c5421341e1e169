"""Candidate negatives of each query, and reproducible random draws for mixing them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import at_least_float32
from contrast.losses.exclusion import left_out
from contrast.losses.logits import own_negatives_offered
from contrast.pairs import MINED, UNKNOWN, Pairs
from contrast.randomness import uniform

__all__ = ["BetaQuantile", "query_draws", "real_scores", "row_identity", "row_permutation", "rows_at", "samples_at"]


@checked
def real_scores(pairs: Pairs) -> Float[Tensor, "*h b c"]:
    """Scores of each query with all real negatives, for mining.

    The columns are those of `Pairs.without`: own negatives stand after the shared negatives. The score is -inf for
    excluded rows, mixes and placeholders.

    Args:
        pairs: queries, shared negatives and own negatives, c = k + s in all.

    Returns:
        The scores, (*h, b, c), in at least float32.
    """
    query, shared = at_least_float32(pairs.query), at_least_float32(pairs.negatives)
    kept = ~left_out(pairs, 0, shared.shape[-2])
    if pairs.placeholder is not None:
        kept = kept & ~pairs.placeholder
    score = (query @ shared.transpose(-1, -2)).masked_fill(~kept, -torch.inf)
    if pairs.own_negatives is None:
        return score
    real = own_negatives_offered(pairs)
    if pairs.own_negative_kind is not None:
        real = real & (pairs.own_negative_kind == MINED)
    own = torch.einsum("...bd,...bsd->...bs", query, at_least_float32(pairs.own_negatives)).masked_fill(
        ~real, -torch.inf
    )
    return torch.cat([score, own], dim=-1)


def rows_at(pairs: Pairs, column: Int[Tensor, "*h b n"]) -> Float[Tensor, "*h b n d"]:
    """The negatives in these columns, with their gradient; own negatives are counted after the shared ones."""
    shared, width = pairs.negatives.shape[-2], pairs.query.shape[-1]
    if pairs.own_negatives is None:
        return _shared_at(pairs, column)
    own = torch.gather(at_least_float32(pairs.own_negatives), -2, _wide((column - shared).clamp(min=0), width))
    if not shared:
        return own
    return torch.where((column < shared)[..., None], _shared_at(pairs, column.clamp(max=shared - 1)), own)


def samples_at(pairs: Pairs, column: Int[Tensor, "*h b n"]) -> Int[Tensor, "*h b n"]:
    """The training sample of the negatives in these columns; unknown for a shared negative made of two samples."""
    of = pairs.negative_index
    of = torch.full_like(of[:, 0], UNKNOWN) if of.ndim == 2 else of
    shared = len(of)
    if pairs.own_negative_index is None:
        return of[column]
    place = (column - shared).clamp(min=0)
    own = pairs.own_negative_index.expand(*column.shape[:-1], -1).gather(-1, place)
    return torch.where(column < shared, of[column.clamp(max=shared - 1)], own) if shared else own


def _shared_at(pairs: Pairs, column: Tensor) -> Tensor:
    rows = at_least_float32(pairs.negatives)[..., None, :, :]
    return torch.gather(rows.expand(*column.shape[:-1], *rows.shape[-2:]), -2, _wide(column, rows.shape[-1]))


def _wide(column: Tensor, width: int) -> Tensor:
    return column[..., None].expand(*column.shape, width)


_VIEWS = 8  # number of bits for the view, below the sample's index
_COPIES = 24  # number of bits that tell rows of one sample apart


class BetaQuantile(nn.Module):
    """Beta(α, α) random numbers from uniform numbers, by the quantile function.

    The quantile function is a table of 4,097 points with linear interpolation. The distribution function is off by less
    than one table step, 1/4096.

    Args:
        alpha: α, above 0.

    Example:
        >>> BetaQuantile(2.0)(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0.0, 0.5, 1.0]
    """

    table: Tensor

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha {alpha:g} must be finite and above 0: it is the shape of a Beta distribution")
        from scipy.special import betaincinv  # the import takes half a second, and only mixing transforms need it

        quantiles = betaincinv(alpha, alpha, torch.linspace(0, 1, 4097, dtype=torch.float64).numpy())
        self.register_buffer("table", torch.as_tensor(quantiles, dtype=torch.float32), persistent=False)

    def forward(self, uniforms: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        steps = len(self.table) - 1
        place = uniforms * steps
        below = place.floor().clamp(max=steps - 1)
        low = below.long()
        return torch.lerp(self.table[low], self.table[low + 1], (place - below).to(self.table.dtype))


def query_draws(pairs: Pairs, keys: tuple[int, ...], count: int) -> Float[Tensor, "b {count}"]:
    """Draw `count` uniform numbers for each query, each a pure function of (keys, sample, view, column)."""
    view = 0 if pairs.view is None else pairs.view
    return uniform(keys, (pairs.index << _VIEWS) + view, count)


def row_identity(index: Int[Tensor, " k"]) -> Int[Tensor, " k"]:
    """A number for each row that depends only on its sample, and on its rank among the rows of that sample."""
    order = index.argsort(stable=True)
    ranked = index[order]
    place = torch.arange(len(index), device=index.device)
    first = torch.searchsorted(ranked, ranked)  # first position of each sample
    identity = torch.empty_like(index)
    identity[order] = (ranked << _COPIES) + place - first
    return identity


def row_permutation(identity: Int[Tensor, " k"], keys: tuple[int, ...]) -> Int[Tensor, " k"]:
    """Random permutation of rows that does not depend on their order: it depends only on their identities and the keys.

    Args:
        identity: the number of each row from `row_identity`, (k,).
        keys: what the draw is for.

    Returns:
        The partner of row r is row ``permutation[r]``. Every permutation has the same probability.
    """
    draws = uniform(keys, identity, 4).double()
    # Each sort key joins two float32 numbers of 24 bits, so that ties are unlikely even among a million rows. Ties
    # would be resolved by position.
    source, target = (draws[:, i] + draws[:, i + 1] * 2.0**-24 for i in (0, 2))
    permutation = torch.empty_like(identity)
    permutation[source.argsort(stable=True)] = target.argsort(stable=True)
    return permutation
