"""The hardest negatives of a few queries, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from contrast.losses import LogitLoss
from contrast.observation.blocks import PLACEHOLDER, Block, blocks
from contrast.observation.gradient import logit_gradient
from contrast.pairs import UNKNOWN, Pairs

__all__ = ["HardNegative", "hardest_negatives"]

MIXES = ("pair_mix", "query_mix")
_MOST_MIXES = 2


@dataclass(frozen=True)
class HardNegative:
    """One negative of a query.

    Attributes:
        index: its sample; -1 of a mix, and where it is not known.
        score: with the query, before the temperature.
        share: of the query's gradient on all its negatives but placeholders.
        kind: shared, mined, pair_mix or query_mix.
    """

    index: int
    score: float
    share: float
    kind: str


@torch.no_grad()
def hardest_negatives(loss: LogitLoss, pairs: Pairs, count: int) -> list[list[HardNegative]]:
    """The `count` negatives of highest score of each query, hardest first, at most two mixes among them.
    A queue's random start is left out.

    Of several heads, the first one's.

    Args:
        loss: whose gradients are asked for.
        pairs: as they were after the transforms.
        count: negatives a query.
    """
    pairs = _first_head(pairs)
    positive, negatives = loss.logits(pairs)
    gradient = logit_gradient(loss, pairs, positive, negatives)
    found: list[list[HardNegative]] = [[] for _ in pairs.index]
    total = torch.zeros(len(pairs.index))
    for block in blocks(pairs, negatives, None):
        if block.kind == PLACEHOLDER:
            continue
        size = gradient.sizes(block.tile)
        total += size.sum(dim=1).float().cpu()
        score, place = (block.score + block.weight.log()).topk(min(count, block.score.shape[1]), dim=1)
        of = _samples(pairs, block).expand_as(block.score).gather(1, place)
        rows = zip(found, score.tolist(), size.gather(1, place).tolist(), of.tolist(), strict=True)
        for kept, scores, sizes, samples in rows:
            here = zip(samples, scores, sizes, strict=True)
            kept += [HardNegative(sample, s, g, block.kind) for sample, s, g in here if s > -torch.inf]
    return [
        [replace(each, share=each.share / whole if whole else 0.0) for each in _chosen(kept, count)]
        for kept, whole in zip(found, total.tolist(), strict=True)
    ]


def _chosen(found: Sequence[HardNegative], count: int) -> list[HardNegative]:
    """The hardest; of mixes only the first few, for otherwise nothing else is left of a mixing."""
    ranked = sorted(found, key=lambda each: -each.score)
    mixes = [each for each in ranked if each.kind in MIXES][:_MOST_MIXES]
    return [each for each in ranked if each.kind not in MIXES or each in mixes][:count]


def _samples(pairs: Pairs, block: Block) -> Tensor:
    stop = block.tile.start + block.tile.score.shape[-1]
    if not block.tile.own:
        of = pairs.negative_index[block.tile.start : stop]
        return (torch.full_like(of[:, 0], UNKNOWN) if of.ndim == 2 else of)[None]
    assert pairs.own_negative_index is not None
    return pairs.own_negative_index[:, block.tile.start : stop]


def _first_head(pairs: Pairs) -> Pairs:
    if pairs.query.ndim == 2:
        return pairs
    by_head = ("query", "positive", "negatives", "own_negatives", "own_negative_parents", "extra_positives")
    fields = {name: getattr(pairs, name) for name in by_head}
    return replace(pairs, **{name: each[0] for name, each in fields.items() if each is not None})
