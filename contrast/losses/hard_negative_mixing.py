"""MoCHi: further negatives for each query, mixed from its hardest ones."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import PairTransform, wide
from contrast.losses.candidates import query_draws, real_scores, rows_at, samples_at
from contrast.pairs import NOT_OFFERED, PAIR_MIX, QUERY_MIX, UNKNOWN, Pairs
from contrast.randomness import Purpose
from contrast.runs.length import RunLength

__all__ = ["HardNegativeMixing", "mix_pairs", "mix_with_query"]


class HardNegativeMixing(PairTransform):
    """MoCHi: for each query, s mixes of two of its N hardest negatives and s′ mixes of one with the query itself.

    ``h = norm(a n_i + (1 - a) n_j)``, a ~ U(0, 1), and ``h′ = norm(b q + (1 - b) n_j)``, b ~ U(0, 1/2), where n are
    rows of unit length among the N of largest score. The mixes are added to the negatives that there are, and carry no
    gradient, neither to the rows nor to the query inside h′. Rows that the query leaves out, and a queue's
    placeholders, are never mined; what a bank mined for the query is; a query with fewer than N rows mixes those.

    Source: Kalantidis et al., NeurIPS 2020, arXiv 2010.01028, section 4. The paper draws two negatives; the
    re-implementations that we know of may draw the same one twice, here the two differ.

    Args:
        hardest: N, how many of the hardest negatives are mixed.
        pairs: s, mixes of two negatives for each query.
        queries: s′, mixes of the query and a negative.
        start_epoch: no mixes before this epoch, counted from 0.
        seed: of the draws, functions of (seed, step, sample, view); a run's seed if a configuration leaves it out.

    Raises:
        InputError: where a count is negative, or rows are to be mixed of none.

    Example:
        >>> from contrast import queue_pairs
        >>> rows = torch.nn.functional.normalize(torch.randn(20, 8), dim=-1)
        >>> pairs = queue_pairs(rows[:2], rows[2:4], rows[4:], torch.arange(2), torch.arange(4, 20))
        >>> HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)(pairs).own_negatives.shape
        torch.Size([2, 5, 8])
    """

    @checked
    def __init__(
        self, hardest: int = 1024, pairs: int = 1024, queries: int = 128, start_epoch: int = 10, seed: int = 0
    ) -> None:
        super().__init__()
        for name, value in (("pairs", pairs), ("queries", queries), ("start_epoch", start_epoch)):
            if value < 0:
                raise InputError(f"HardNegativeMixing's {name} {value} is negative: give 0 or more")
        if hardest < 1:
            raise InputError(f"HardNegativeMixing's hardest {hardest} leaves nothing to mix: give at least 1")
        self.hardest, self.pairs, self.queries, self.seed = hardest, pairs, queries, seed
        self.start_epoch, self._epoch, self._step = start_epoch, start_epoch, 0

    def begin_step(self, epoch: int, step: int) -> None:
        self._epoch, self._step = epoch, step

    def never_acts(self, run: RunLength) -> str | None:
        if self.pairs + self.queries == 0:
            return "HardNegativeMixing of 0 pairs and 0 queries makes no mixes"
        return run.before_epoch("HardNegativeMixing (MoCHi)", self.start_epoch, "it will never mix")

    @torch.no_grad()
    def forward(self, pairs: Pairs) -> Pairs:
        if self._epoch < self.start_epoch or self.pairs + self.queries == 0 or not _any(pairs):
            return pairs
        column, count = _hardest(pairs, self.hardest)
        hard, samples = rows_at(pairs, column), samples_at(pairs, column)
        draws = query_draws(
            pairs, (self.seed, self._step, Purpose.HARD_NEGATIVE_MIXING), 3 * self.pairs + 2 * self.queries
        ).to(hard.dtype)
        first, second, share, other, own = torch.split(draws, [self.pairs] * 3 + [self.queries] * 2, dim=1)
        i = _place(first, count)
        apart = 1 + _place(second, count - 1)  # at least one place on, at most one short of all the way round
        j = (i + apart) % count[:, None].clamp(min=1)
        heads = hard.shape[:-3]
        i, j, k = (each.expand(*heads, *each.shape) for each in (i, j, _place(other, count)))
        made = [mix_pairs(hard, i, j, share), mix_with_query(wide(pairs.query), hard, k, own / 2)]
        parents = [samples.gather(-1, torch.cat([i, k], dim=-1)), samples.gather(-1, j)]
        parents[1] = torch.nn.functional.pad(parents[1], (0, self.queries), value=UNKNOWN)  # the query is no parent
        index = torch.where(count > 0, UNKNOWN, NOT_OFFERED)[:, None].expand(-1, self.pairs + self.queries)
        kind = index.new_tensor([PAIR_MIX] * self.pairs + [QUERY_MIX] * self.queries)
        return _with_own(pairs, torch.cat(made, dim=-2), index, kind, torch.stack(parents, dim=-1))

    def extra_repr(self) -> str:
        return f"hardest={self.hardest}, pairs={self.pairs}, queries={self.queries}, start_epoch={self.start_epoch}"


def _any(pairs: Pairs) -> bool:
    return len(pairs.negative_index) > 0 or pairs.own_negatives is not None


def hardest_rows(pairs: Pairs, most: int) -> tuple[Float[Tensor, "*h b n d"], Int[Tensor, " b"]]:
    """Each query's hardest negatives, shared and mined, and how many of those rows are ones, the same for all heads."""
    column, count = _hardest(pairs, most)
    return rows_at(pairs, column), count


def _hardest(pairs: Pairs, most: int) -> tuple[Int[Tensor, "*h b n"], Int[Tensor, " b"]]:
    score = real_scores(pairs)
    best, column = score.topk(min(most, score.shape[-1]), dim=-1)
    count = (~best.isneginf()).sum(dim=-1)
    return column, count if count.ndim == 1 else count[0]


@checked
def mix_pairs(
    hard: Float[Tensor, "*h b n d"], i: Int[Tensor, "*h b s"], j: Int[Tensor, "*h b s"], a: Float[Tensor, "*#h b s"]
) -> Float[Tensor, "*h b s d"]:
    """``norm(a n_i + (1 - a) n_j)`` without gradient; MoCHi, arXiv 2010.01028, section 4.1.

    Args:
        hard: rows of each query.
        i, j: which of them are mixed.
        a: the share of the first, in [0, 1].
    """
    share = a[..., None]
    mixed = share * _pick(hard, i) + (1 - share) * _pick(hard, j)
    return torch.nn.functional.normalize(mixed, dim=-1).detach()


@checked
def mix_with_query(
    query: Float[Tensor, "*h b d"],
    hard: Float[Tensor, "*h b n d"],
    j: Int[Tensor, "*h b s"],
    b: Float[Tensor, "*#h b s"],
) -> Float[Tensor, "*h b s d"]:
    """``norm(b q + (1 - b) n_j)`` without gradient; MoCHi, arXiv 2010.01028, section 4.2.

    Args:
        query: (b, d).
        hard: rows of each query.
        j: which of them are mixed.
        b: the share of the query, in [0, 1/2].
    """
    share = b[..., None]
    mixed = share * query[..., :, None, :] + (1 - share) * _pick(hard, j)
    return torch.nn.functional.normalize(mixed, dim=-1).detach()


def _pick(hard: Tensor, place: Tensor) -> Tensor:
    return torch.gather(hard, -2, _wide_index(place, hard.shape[-1]))


def _wide_index(place: Tensor, width: int) -> Tensor:
    return place[..., None].expand(*place.shape, width)


def _place(uniforms: Tensor, count: Tensor) -> Tensor:
    """Whole numbers below `count`, (b, s); 0 where it is 0 or less."""
    # No draw is above 1 - 2^-24, which in float32 times a whole number never rounds up to that number.
    return (uniforms * count[:, None]).long()


def _with_own(pairs: Pairs, rows: Tensor, index: Tensor, kind: Tensor, parents: Tensor) -> Pairs:
    """The pairs with further own negatives behind those that there are."""
    if pairs.own_negatives is not None and pairs.own_negative_index is not None:
        rows = torch.cat([wide(pairs.own_negatives), rows], dim=-2)
        parents = torch.cat([_parents_before(pairs, parents), parents], dim=-2)
        index = torch.cat([pairs.own_negative_index, index], dim=-1)
        before = pairs.own_negative_kind
        kind = torch.cat([kind.new_zeros(rows.shape[-2] - len(kind)) if before is None else before, kind])
    return dataclasses.replace(
        pairs,
        own_negatives=rows,
        own_negative_index=index,
        own_negative_kind=kind,
        own_negative_parents=parents,
    )


def _parents_before(pairs: Pairs, like: Tensor) -> Tensor:
    if pairs.own_negative_parents is not None:
        return pairs.own_negative_parents
    assert pairs.own_negative_index is not None
    alone = torch.nn.functional.pad(pairs.own_negative_index.clamp(min=UNKNOWN)[..., None], (0, 1), value=UNKNOWN)
    return alone.expand(*like.shape[:-3], *alone.shape)
