"""Sums over each query's negatives in one direction, block by block: hardness, false negatives, gradients."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from contrast.losses import LogitLoss, NegativeLogits, PositiveLogits
from contrast.observation.blocks import PLACEHOLDER, SOURCES, Block, Ranked, RankedNumbers, blocks
from contrast.observation.gradient import LogitGradient, logit_gradient
from contrast.observation.sums import Array, array
from contrast.pairs import Pairs

__all__ = ["PerQuery", "per_query", "positive"]


class PerQuery(NamedTuple):
    """Sums over each query's negatives, arrays (n,), and its hardest negatives.

    Heads and queries are one axis, n = h · b. Placeholders do not count as negatives here. The loss has them among its
    negatives, so they count in `push` and `partition`.

    Attributes:
        score: score of the positive.
        logit: logit of the positive.
        negatives: number of negatives.
        placeholders: number of placeholders that the loss has in addition.
        total: Σ g, where g is the relative gradient magnitude of a negative, in proportion to |∂L/∂l|.
        push: Σ |∂L/∂l|.
        entropy: -Σ g log g.
        mixed: Σ g over mixes.
        false: Σ g over negatives of the query's class; None without labels.
        denominator: same-class share of the softmax denominator Σ exp(l); None without labels.
        sources: hardest negatives by source, with g and, with labels, the same-class share and whether it is known.
        ranked: hardest negatives of all sources, likewise.
        by_gradient: whether ranking by score equals ranking by g.
        pull: |∂L/∂l⁺|.
        partition: log Σ exp(l).
        hardest: highest score among real rows, and among mixes; -inf where there are none.
        kinds: kinds of negatives that occur.
    """

    score: Array
    logit: Array
    negatives: Array
    placeholders: Array
    total: Array
    push: Array
    entropy: Array
    mixed: Array
    false: Array | None
    denominator: Array | None
    sources: Mapping[str, RankedNumbers]
    ranked: RankedNumbers
    by_gradient: bool
    pull: Array
    partition: Array
    hardest: tuple[Array, Array]
    kinds: frozenset[str]


def per_query(
    loss: LogitLoss,
    pairs: Pairs,
    positives: PositiveLogits,
    negatives: NegativeLogits,
    labels: Int[Tensor, " n"] | None,
    look: Callable[[Block], None],
) -> PerQuery:
    """Compute all per-query sums in one pass over the negatives.

    Args:
        loss: loss whose gradients are computed.
        pairs: pairs after the transforms.
        positives, negatives: their logits.
        labels: labels of the training samples, (n,); None without labels.
        look: called with every block except placeholders.
    """
    gradient = logit_gradient(loss, pairs, positives, negatives)
    known = [partition for scale, _, partition in gradient.sums if scale == 1]
    partition = known[0] if known else negatives.logsumexp().detach()
    sums = _Sums(gradient, partition, labels is not None, loss.temperature.single() is not None)
    for block in blocks(pairs, negatives, labels):
        if block.kind == PLACEHOLDER:
            sums.add_placeholders(block)
        else:
            look(block)
            sums.add(block)
    return sums.finished(positives, partition)


def positive(total: Array) -> Array:
    """A divisor above 0: replaces 0 by the smallest positive normal float64."""
    return np.maximum(total, np.finfo(np.float64).tiny)


class _Sums:
    def __init__(self, gradient: LogitGradient, partition: Tensor, labelled: bool, one_temperature: bool) -> None:
        self.gradient, self.partition = gradient, partition
        self.labelled, self.one_temperature = labelled, one_temperature
        self.kinds = set[str]()
        self.sources: dict[str, Ranked] = {}
        nothing = partition.flatten().new_zeros(partition.numel())
        self.negatives, self.total, self.entropy, self.mixed, self.false, self.denominator = (
            nothing.clone() for _ in range(6)
        )
        self.placeholders, self.on_placeholders, self.whole = (nothing.clone() for _ in range(3))
        self.hardest = {mixed: torch.full_like(nothing, -torch.inf) for mixed in (False, True)}

    def add(self, block: Block) -> None:
        size = self.gradient.sizes(block.tile).flatten(0, -2)
        total = size.sum(dim=1)
        many = block.weight.sum(dim=1)
        self.negatives += many
        self.total += total
        self._add_entropy(block, size, total)
        mixed = SOURCES[block.kind] == "mixed"
        self.kinds.add(block.kind)
        if mixed:
            self.mixed += total
        score = block.score + block.weight.log()  # -inf where no negative is offered
        if score.shape[1]:
            self.hardest[mixed] = torch.maximum(self.hardest[mixed], score.amax(dim=1))
        numbers = [size]
        sums = [many, torch.linalg.vecdot(block.score, block.weight), total]
        if block.same is not None and block.told is not None:
            numbers, sums = [size, block.same, block.told], [*sums, block.same.sum(dim=1), block.told.sum(dim=1)]
            self.false += torch.linalg.vecdot(size, block.same)
            if not self.gradient.is_softmax:
                chance = (block.tile.logit - self.partition[..., None]).clamp_(max=0).exp_().flatten(0, -2)
                chance = chance * block.weight
                self.denominator += torch.linalg.vecdot(chance, block.same)
                self.whole += chance.sum(dim=1)
        self.sources.setdefault(SOURCES[block.kind], Ranked()).add(score, numbers, torch.stack(sums))

    def add_placeholders(self, block: Block) -> None:
        self.placeholders += block.weight.sum(dim=1)
        self.on_placeholders += self.gradient.sizes(block.tile).flatten(0, -2).sum(dim=1)

    def _add_entropy(self, block: Block, size: Tensor, total: Tensor) -> None:
        if not self.gradient.is_softmax:
            self.entropy += torch.special.entr(size).sum(dim=1)
            return
        # -Σ p log p with log p = l - lse: avoids a logarithm per negative.
        logit = block.tile.logit.flatten(0, -2)
        self.entropy += self.partition.flatten() * total - torch.linalg.vecdot(size, logit)

    def finished(self, positives: PositiveLogits, partition: Tensor) -> PerQuery:
        softmax = self.gradient.is_softmax
        push = self.gradient.push(self.total + self.on_placeholders)
        sums = [self.negatives, self.placeholders, self.total, push, self.entropy, self.mixed, self.false]
        others = [
            self.denominator / self.whole.clamp(min=torch.finfo(self.whole.dtype).tiny),
            self.gradient.pull.abs().flatten(),
            partition.flatten(),
            *self.hardest.values(),
        ]
        negatives, placeholders, total, push, entropy, mixed, false, denominator, pull, lse, real, mixes = array(
            torch.stack([*sums, *others])
        )
        every = functools.reduce(Ranked.merged, self.sources.values()) if self.sources else Ranked()
        sources = {name: each.looked_at() for name, each in self.sources.items()}
        return PerQuery(
            score=array(positives.score.flatten()),
            logit=array(positives.logit.flatten()),
            negatives=negatives,
            placeholders=placeholders,
            total=total,
            push=push,
            entropy=entropy,
            mixed=mixed,
            false=false if self.labelled else None,
            denominator=(false / positive(total) if softmax else denominator) if self.labelled else None,
            sources=sources,
            ranked=next(iter(sources.values())) if len(sources) == 1 else every.looked_at(),
            by_gradient=softmax and self.one_temperature,
            pull=pull,
            partition=lse,
            hardest=(real, mixes),
            kinds=frozenset(self.kinds),
        )
