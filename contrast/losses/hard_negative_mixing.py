"""Hard negative mixing (MoCHi): synthetic negatives for each query, mixed from its hardest negatives."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses.base import PairTransform, at_least_float32
from contrast.losses.candidates import query_draws, real_scores, rows_at, samples_at
from contrast.pairs import NOT_OFFERED, PAIR_MIX, QUERY_MIX, UNKNOWN, Pairs
from contrast.randomness import Purpose
from contrast.runs.length import RunLength

__all__ = ["HardNegativeMixing", "mix_pairs", "mix_with_query"]


class HardNegativeMixing(PairTransform):
    """Hard negative mixing (MoCHi): add synthetic hard negatives for each query.

    ``h = norm(a n_i + (1 - a) n_j)``, a ~ U(0, 1), and ``h′ = norm(b q + (1 - b) n_j)``, b ~ U(0, 1/2)

    Here n are unit rows among the query's N hardest negatives, those with the largest scores. Each query gets s mixes h
    of two hard negatives, and s′ mixes h′ of a hard negative with the query itself. The mixes are added to the existing
    negatives. They carry no gradient, neither to the rows nor to the query inside h′. Excluded rows and a queue's
    placeholders are never mixed; rows that a bank mined for the query may be. A query with fewer than N rows mixes
    those.

    Args:
        hardest: N, the number of hardest negatives to mix from.
        pairs: s, the number of mixes of two negatives per query.
        queries: s′, the number of mixes of the query and a negative per query.
        start_epoch: the first epoch, counted from 0, with mixes.
        seed: seed of the draws, which are functions of (seed, step, sample, view). If omitted, a configuration uses the
            run's seed.

    Raises:
        InputError: if a count is negative, or `hardest` is below 1.

    Source: Kalantidis et al., NeurIPS 2020, arXiv 2010.01028, section 4. The paper draws two negatives. The
    re-implementations that we know of may draw the same negative twice; here the two differ.

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
        apart = 1 + _place(second, count - 1)  # between 1 and count - 1 places further on, so that j differs from i
        j = (i + apart) % count[:, None].clamp(min=1)
        heads = hard.shape[:-3]
        i, j, k = (each.expand(*heads, *each.shape) for each in (i, j, _place(other, count)))
        made = [mix_pairs(hard, i, j, share), mix_with_query(at_least_float32(pairs.query), hard, k, own / 2)]
        parents = [samples.gather(-1, torch.cat([i, k], dim=-1)), samples.gather(-1, j)]
        parents[1] = torch.nn.functional.pad(parents[1], (0, self.queries), value=UNKNOWN)  # the query is not a parent
        index = torch.where(count > 0, UNKNOWN, NOT_OFFERED)[:, None].expand(-1, self.pairs + self.queries)
        kind = index.new_tensor([PAIR_MIX] * self.pairs + [QUERY_MIX] * self.queries)
        return pairs.with_own(torch.cat(made, dim=-2), index, kind, torch.stack(parents, dim=-1))

    def extra_repr(self) -> str:
        return f"hardest={self.hardest}, pairs={self.pairs}, queries={self.queries}, start_epoch={self.start_epoch}"


def _any(pairs: Pairs) -> bool:
    return len(pairs.negative_index) > 0 or pairs.own_negatives is not None


def hardest_rows(pairs: Pairs, most: int) -> tuple[Float[Tensor, "*h b n d"], Int[Tensor, " b"]]:
    """The hardest negatives of each query, shared and mined, and the number of valid rows per query.

    The number of valid rows is the same for all heads.
    """
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
    """Mix pairs of hard negatives as in MoCHi: ``norm(a n_i + (1 - a) n_j)``, without gradient.

    Args:
        hard: the hard negatives of each query, (*h, b, n, d).
        i: position of the first row of each mix, (*h, b, s).
        j: position of the second row of each mix, (*h, b, s).
        a: share of the first row, in [0, 1].

    Returns:
        The mixes, (*h, b, s, d), of unit length.

    Source: Kalantidis et al., NeurIPS 2020, arXiv 2010.01028, section 4.1.
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
    """Mix hard negatives with the query as in MoCHi: ``norm(b q + (1 - b) n_j)``, without gradient.

    Args:
        query: q, (*h, b, d).
        hard: the hard negatives of each query, (*h, b, n, d).
        j: position of the row of each mix, (*h, b, s).
        b: share of the query, in [0, 1/2].

    Returns:
        The mixes, (*h, b, s, d), of unit length.

    Source: Kalantidis et al., NeurIPS 2020, arXiv 2010.01028, section 4.2.
    """
    share = b[..., None]
    mixed = share * query[..., :, None, :] + (1 - share) * _pick(hard, j)
    return torch.nn.functional.normalize(mixed, dim=-1).detach()


def _pick(hard: Tensor, place: Tensor) -> Tensor:
    return torch.gather(hard, -2, _wide_index(place, hard.shape[-1]))


def _wide_index(place: Tensor, width: int) -> Tensor:
    return place[..., None].expand(*place.shape, width)


def _place(uniforms: Tensor, count: Tensor) -> Tensor:
    """Random integers below `count`, (b, s); 0 if `count` is 0 or less."""
    # A draw is at most 1 - 2^-24, so its float32 product with `count` never rounds up to `count`.
    return (uniforms * count[:, None]).long()
