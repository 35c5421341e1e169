"""Real negatives of each query, shared ones and its own: what transforms mine."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.losses.left_out import left_out
from contrast.losses.logits import own_negatives_offered
from contrast.losses.wide import wide
from contrast.pairs import MINED, UNKNOWN, Pairs

__all__ = ["real_scores", "rows_at", "samples_at"]


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
