"""Candidate negatives of a query and keyed random draws among them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.errors import InputError
from contrast.losses.base import wide
from contrast.losses.exclusion import left_out
from contrast.losses.logits import own_negatives_offered
from contrast.pairs import MINED, UNKNOWN, Pairs
from contrast.randomness import uniform

__all__ = ["BetaQuantile", "query_draws", "real_scores", "row_identity", "row_permutation", "rows_at", "samples_at"]


def real_scores(pairs: Pairs) -> Float[Tensor, "*h b c"]:
    """Scores of all negatives, own ones behind the shared; -inf for what is left out, a mix or a placeholder."""
    query, shared = wide(pairs.query), wide(pairs.negatives)
    kept = ~left_out(pairs, 0, shared.shape[-2])
    if pairs.placeholder is not None:
        kept = kept & ~pairs.placeholder
    score = (query @ shared.transpose(-1, -2)).masked_fill(~kept, -torch.inf)
    if pairs.own_negatives is None:
        return score
    real = own_negatives_offered(pairs)
    if pairs.own_negative_kind is not None:
        real = real & (pairs.own_negative_kind == MINED)
    own = torch.einsum("...bd,...bsd->...bs", query, wide(pairs.own_negatives)).masked_fill(~real, -torch.inf)
    return torch.cat([score, own], dim=-1)


def rows_at(pairs: Pairs, column: Int[Tensor, "*h b n"]) -> Float[Tensor, "*h b n d"]:
    """The negatives in these columns, with the gradient that they have."""
    shared, width = pairs.negatives.shape[-2], pairs.query.shape[-1]
    if pairs.own_negatives is None:
        return _shared_at(pairs, column)
    own = torch.gather(wide(pairs.own_negatives), -2, _wide((column - shared).clamp(min=0), width))
    if not shared:
        return own
    return torch.where((column < shared)[..., None], _shared_at(pairs, column.clamp(max=shared - 1)), own)


def samples_at(pairs: Pairs, column: Int[Tensor, "*h b n"]) -> Int[Tensor, "*h b n"]:
    """Which sample the negatives in these columns are of; unknown for a shared one that is made of two."""
    of = pairs.negative_index
    of = torch.full_like(of[:, 0], UNKNOWN) if of.ndim == 2 else of
    shared = len(of)
    if pairs.own_negative_index is None:
        return of[column]
    place = (column - shared).clamp(min=0)
    own = pairs.own_negative_index.expand(*column.shape[:-1], -1).gather(-1, place)
    return torch.where(column < shared, of[column.clamp(max=shared - 1)], own) if shared else own


def _shared_at(pairs: Pairs, column: Tensor) -> Tensor:
    rows = wide(pairs.negatives)[..., None, :, :]
    return torch.gather(rows.expand(*column.shape[:-1], *rows.shape[-2:]), -2, _wide(column, rows.shape[-1]))


def _wide(column: Tensor, width: int) -> Tensor:
    return column[..., None].expand(*column.shape, width)


_VIEWS = 8  # bits for the view beside the sample's index
_COPIES = 24  # bits for which of several rows of one sample


class BetaQuantile(nn.Module):
    """Uniform numbers to Beta(α, α) ones, by the quantile function: from a table of 4,097 points, linear between them.

    Within a table's step the distribution function is off by less than the step, 1/4096.

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
            raise InputError(f"alpha {alpha:g} is no number above 0: it shapes a Beta distribution")
        from scipy.special import betaincinv  # half a second, and only the transforms that mix need it

        quantiles = betaincinv(alpha, alpha, torch.linspace(0, 1, 4097, dtype=torch.float64).numpy())
        self.register_buffer("table", torch.as_tensor(quantiles, dtype=torch.float32), persistent=False)

    def forward(self, uniforms: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        steps = len(self.table) - 1
        place = uniforms * steps
        below = place.floor().clamp(max=steps - 1)
        low = below.long()
        return torch.lerp(self.table[low], self.table[low + 1], (place - below).to(self.table.dtype))


def query_draws(pairs: Pairs, keys: tuple[int, ...], count: int) -> Float[Tensor, "b {count}"]:
    """`count` uniform numbers a query, each a pure function of (keys, sample, view, column)."""
    view = 0 if pairs.view is None else pairs.view
    return uniform(keys, (pairs.index << _VIEWS) + view, count)


def row_identity(index: Int[Tensor, " k"]) -> Int[Tensor, " k"]:
    """A number for each row that depends on its sample alone, and on its rank among rows of the same sample."""
    order = index.argsort(stable=True)
    ranked = index[order]
    place = torch.arange(len(index), device=index.device)
    first = torch.searchsorted(ranked, ranked)  # where each sample's rows begin
    identity = torch.empty_like(index)
    identity[order] = (ranked << _COPIES) + place - first
    return identity


def row_permutation(identity: Int[Tensor, " k"], keys: tuple[int, ...]) -> Int[Tensor, " k"]:
    """A random permutation that maps rows to rows by what they are: the same whatever order they stand in.

    Args:
        identity: of each row, from `row_identity`.
        keys: what the draw is for.

    Returns:
        Row r's partner is row ``permutation[r]``; every permutation is as likely as any other.
    """
    draws = uniform(keys, identity, 4).double()
    # Two float32 numbers of 24 bits each: ties among a million rows, which would go by place, are then unlikely.
    source, target = (draws[:, i] + draws[:, i + 1] * 2.0**-24 for i in (0, 2))
    permutation = torch.empty_like(identity)
    permutation[source.argsort(stable=True)] = target.argsort(stable=True)
    return permutation
