"""What one direction's negatives show of each query, tile by tile: hardness, false negatives, gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from contrast.losses import ContrastiveLoss, NegativeLogits, PositiveLogits
from contrast.observation.blocks import SOURCES, Block, blocks
from contrast.observation.gradient import LogitGradient, logit_gradient
from contrast.observation.ranks import Ranked
from contrast.observation.temperatures import single_temperature
from contrast.pairs import Pairs

__all__ = ["PerQuery", "per_query"]


class PerQuery(NamedTuple):
    """Sums over each query's negatives, (n,); and the hardest of them.

    Attributes:
        negatives: how many there are.
        gradient: Σ |∂L/∂l|.
        entropy: -Σ |g| log |g| of that.
        mixed: Σ |g| over mixes.
        false: Σ |g| over those of the query's class; None without labels.
        denominator: which share of Σ exp(l) those of the class have; None without labels.
        sources: by where they come from, ranked by hardness, with |g| and, with labels, same and known.
        ranked: all of them likewise.
        by_gradient: whether the hardest have most of the gradient, in the same order.
        pull: |∂L/∂l⁺|.
        partition: log Σ exp(l).
        hardest: the highest score among real rows, and among mixes; -inf where there are none.
        kinds: which there are.
    """

    negatives: Tensor
    gradient: Tensor
    entropy: Tensor
    mixed: Tensor
    false: Tensor | None
    denominator: Tensor | None
    sources: Mapping[str, Ranked]
    ranked: Ranked
    by_gradient: bool
    pull: Tensor
    partition: Tensor
    hardest: tuple[Tensor, Tensor]
    kinds: frozenset[str]


def per_query(
    loss: ContrastiveLoss,
    pairs: Pairs,
    positive: PositiveLogits,
    negatives: NegativeLogits,
    labels: Int[Tensor, " n"] | None,
    look: Callable[[Block], None],
) -> PerQuery:
    """Go through all negatives once.

    Args:
        loss: whose gradients are asked for.
        pairs: as they were after the transforms.
        positive, negatives: their logits.
        labels: of the training samples, or None.
        look: what else looks at every block.
    """
    gradient = logit_gradient(loss, pairs, positive, negatives)
    partition = negatives.logsumexp().detach()
    sums = _Sums(gradient, partition, labels is not None, single_temperature(loss.temperature) is not None)
    for block in blocks(pairs, negatives, labels):
        look(block)
        sums.add(block)
    return sums.finished(negatives, partition)


class _Sums:
    def __init__(self, gradient: LogitGradient, partition: Tensor, labelled: bool, one_temperature: bool) -> None:
        self.gradient, self.partition = gradient, partition
        self.labelled, self.one_temperature = labelled, one_temperature
        self.kinds = set[str]()
        self.sources: dict[str, Ranked] = {}
        nothing = partition.flatten().new_zeros(partition.numel())
        self.total, self.entropy, self.mixed, self.false, self.denominator = (nothing.clone() for _ in range(5))
        self.hardest = {mixed: torch.full_like(nothing, -torch.inf) for mixed in (False, True)}

    def add(self, block: Block) -> None:
        size = self.gradient.of(block.tile).abs().flatten(0, -2)
        total = size.sum(dim=1)
        self.total += total
        self.entropy += torch.special.entr(size).sum(dim=1)
        mixed = SOURCES[block.kind] == "mixed"
        self.kinds.add(block.kind)
        if mixed:
            self.mixed += total
        score = block.score.masked_fill(~block.offered, -torch.inf)
        if score.shape[1]:
            self.hardest[mixed] = torch.maximum(self.hardest[mixed], score.amax(dim=1))
        plain = [block.offered.sum(dim=1), block.score.masked_fill(~block.offered, 0.0).sum(dim=1)]
        numbers, sums = [size], [*plain, total]
        if block.same is not None and block.told is not None:
            same, told = block.same, block.told.to(score.dtype)
            numbers, sums = [size, same, told], [*plain, total, same.sum(dim=1), told.sum(dim=1)]
            self.false += (size * same).sum(dim=1)
            if not self.gradient.is_softmax:
                chance = torch.exp(block.tile.logit - self.partition[..., None]).flatten(0, -2)
                self.denominator += (chance.masked_fill(~block.offered, 0.0) * same).sum(dim=1)
        source = self.sources.setdefault(SOURCES[block.kind], Ranked())
        source.add(score, numbers, torch.stack([row.to(score.dtype) for row in sums]))

    def finished(self, negatives: NegativeLogits, partition: Tensor) -> PerQuery:
        heads = partition.numel() // max(1, len(negatives.count))
        softmax = self.gradient.is_softmax
        denominator = self.false / self.total.clamp(min=1e-300) if softmax else self.denominator
        return PerQuery(
            negatives=negatives.count.repeat(heads),
            gradient=self.total,
            entropy=self.entropy,
            mixed=self.mixed,
            false=self.false if self.labelled else None,
            denominator=denominator if self.labelled else None,
            sources=self.sources,
            ranked=functools.reduce(Ranked.merged, self.sources.values()) if self.sources else Ranked(),
            by_gradient=softmax and self.one_temperature,
            pull=self.gradient.pull.abs().flatten(),
            partition=partition.flatten(),
            hardest=(self.hardest[False], self.hardest[True]),
            kinds=frozenset(self.kinds),
        )
