"""Real negatives of each query, shared ones and its own: what transforms mine."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.losses.logits import left_out, own_negatives_offered, wide
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


def samples_at(pairs: Pairs, column: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Which sample the negatives in these columns are of, where shared ones are of one each."""
    own = pairs.own_negative_index
    nothing = pairs.index.new_full((len(pairs.index), 0), UNKNOWN)
    shared = pairs.negative_index.expand(len(pairs.index), -1)
    return torch.cat([shared, nothing if own is None else own], dim=1).gather(1, column)


def _shared_at(pairs: Pairs, column: Tensor) -> Tensor:
    rows = wide(pairs.negatives)[..., None, :, :]
    return torch.gather(rows.expand(*column.shape[:-1], *rows.shape[-2:]), -2, _wide(column, rows.shape[-1]))


def _wide(column: Tensor, width: int) -> Tensor:
    return column[..., None].expand(*column.shape, width)
