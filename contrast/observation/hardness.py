"""Hardness of negatives: profile by rank, gradient share by rank, false-negative rates, and the hardest negatives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contrast.losses import LogitLoss, Loss, LossOutput
from contrast.observation.blocks import PLACEHOLDER, RANK_ENDS, Block, blocks, chance
from contrast.observation.gradient import logit_gradient
from contrast.observation.negatives import PerQuery, positive
from contrast.observation.observer import ObservedOutput, Observer, floats_at
from contrast.observation.sums import Array, Average, Histogram, PerColumn
from contrast.pairs import UNKNOWN, Pairs

__all__ = ["COUPLING_BINS", "GradientShares", "HardNegative", "Hardness", "Placeholders", "hardest_negatives"]

_SCORE, _GRADIENT = 1, 2  # rows of `by_group`; row 0 is the number of negatives


class Hardness(Observer):
    """Observer of hardness profiles and false-negative rates, over queries of all directions and processes.

    Args:
        device: device of the queries.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._score, self._gradient = self._by_group(), self._by_group()
        self._false: dict[str, PerColumn] = {}
        self._rates: dict[str, Average] = {}
        self._denominator, self._chance = Average(device), Average(device)
        self._negatives = False

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for pairs, seen in zip(output.sampled, output.negatives, strict=False):
            if seen.kinds:
                self._negatives = True
                self._add(seen)
                if output.labels is not None:
                    share, known = chance(output.labels, pairs.index)
                    self._chance.add(share.cpu().numpy(), known.cpu().numpy())

    def _add(self, seen: PerQuery) -> None:
        groups = seen.ranked.by_group()
        self._score.add(groups[_SCORE], groups[0])
        some = seen.total > 0
        self._gradient.add(groups[_GRADIENT][some] / seen.total[some, None], np.ones((some.sum(), groups.shape[-1])))
        if seen.denominator is not None:
            self._add_false("all", groups)
            for name, ranked in seen.sources.items():
                self._add_false(name, groups if ranked is seen.ranked else ranked.by_group())
            self._denominator.add(seen.denominator, seen.negatives > 0)

    def row(self) -> dict[str, Any]:
        """Entries `hardness` and, with labels, `false_negatives`; empty without negatives."""
        if not self._negatives:
            return {}
        score = self._score.values()
        hardness: dict[str, Any] = {"score": score, "gradient": self._gradient.values()[: len(score)]}
        same = {name: sums.values() for name, sums in self._false.items()}
        rates = {name: rate.value() for name, rate in self._rates.items()}
        if not same.get("all"):  # no labels, or no known label yet, as with a queue's random start
            return {"hardness": hardness}
        hardness["same_class"] = same
        rates |= {"random": self._chance.value(), "denominator": self._denominator.value()}
        return {"hardness": hardness, "false_negatives": rates}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        return floats_at(row, {"false_negatives/denominator": ("false_negatives", "denominator")})

    def _add_false(self, name: str, groups: Array) -> None:
        same, told = groups[-2], groups[-1]
        self._false.setdefault(name, self._by_group()).add(same, told)
        self._rates.setdefault(name, Average(self._device)).add_sums(same, told)

    def _by_group(self) -> PerColumn:
        return PerColumn(self._device, len(RANK_ENDS) + 1)


def top_shares(seen: PerQuery, most: Sequence[int]) -> list[Array]:
    """Share of each query's gradient on the k negatives with the largest share, for each k in `most`."""
    size = seen.ranked.numbers[0]
    size = size if seen.by_gradient else -np.sort(-size, axis=1)
    return [size[:, :each].sum(axis=1) / positive(seen.total) for each in most]


COUPLING_BINS = 50
_TOPS = (1, 10, 100)
_OF_GRADIENT = ("effective", "synthetic", *map(str, _TOPS), "same_class")  # only queries with gradient on negatives
_OF_ALL = ("negatives", "pull", "push")
_OCTAVES = 24  # log2 range of the histogram of effective numbers: up to 2^24


_LOGGED = {
    "gradient/effective": ("gradient", "effective", "mean"),
    "gradient/same_class": ("gradient", "same_class"),
    "gradient/synthetic": ("gradient", "synthetic"),
    "coupling/mean": ("coupling", "mean"),
}


class GradientShares(Observer):
    """Observer of gradient shares and of the effective number of negatives, over all directions and processes.

    Args:
        device: device of the queries.
    """

    def __init__(self, device: torch.device) -> None:
        self._effective = Histogram(device, 100, 0.0, _OCTAVES)
        self._coupling = Histogram(device, COUPLING_BINS, 0.0, 1.0)
        self._shares, self._means = PerColumn(device, len(_OF_GRADIENT)), PerColumn(device, len(_OF_ALL))
        self._known_labels = Average(device)
        self._negatives = self._mixes = False

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for seen in output.negatives:
            if seen.kinds:
                self._negatives = True
                self._add(seen)

    def _add(self, seen: PerQuery) -> None:
        """Add queries; shares are taken over queries with a gradient on negatives."""
        some, total = seen.total > 0, positive(seen.total)
        entropy = np.log(total) + seen.entropy / total
        self._effective.add_queries(entropy / math.log(2), some)
        self._mixes |= bool({"pair_mix", "query_mix"} & seen.kinds)
        false = np.full_like(total, np.nan) if seen.false is None else seen.false / total
        shares = [np.exp(entropy), seen.mixed / total, *top_shares(seen, _TOPS), false]
        numbers = np.stack(shares, axis=1)[some]
        self._shares.add(numbers, np.ones_like(numbers))
        numbers = np.stack([seen.negatives, seen.pull, seen.push], axis=1)
        self._means.add(numbers, np.ones_like(numbers))
        multiplier = np.exp(-np.logaddexp(0.0, seen.logit - seen.partition))
        self._coupling.add_queries(multiplier, seen.negatives > 0)
        if seen.false is not None:
            self._known_labels.add(seen.ranked.totals[-1])

    def row(self) -> dict[str, Any]:
        """Entries `gradient` and `coupling`; empty without negatives. The same-class share needs a known label."""
        if not self._negatives:
            return {}
        labelled = self._known_labels.value() > 0
        found = [*self._shares.means(), *self._means.means()]
        means = dict(zip((*_OF_GRADIENT, *_OF_ALL), found, strict=True))
        quantiles = [round(2**each, 4) for each in self._effective.row()["quantiles"]]
        coupling = self._coupling.row()
        gradient = {
            "effective": {"mean": means["effective"], "quantiles": quantiles},
            "negatives": means["negatives"],
            "top": {str(most): means[str(most)] for most in _TOPS},
            **({"synthetic": means["synthetic"]} if self._mixes else {}),
            **({"same_class": means["same_class"]} if labelled else {}),
            "pull": means["pull"],
            "push": means["push"],
        }
        return {"gradient": gradient, "coupling": {key: coupling[key] for key in ("counts", "mean", "quantiles")}}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        return floats_at(row, _LOGGED)


class Placeholders(Observer):
    """Observer of placeholders: mean number of rows of a queue's random start that the loss counts as negatives.

    Args:
        device: device of the queries.
    """

    def __init__(self, device: torch.device) -> None:
        self._count = Average(device)

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for seen in output.negatives:
            self._count.add(seen.placeholders)

    def row(self) -> dict[str, Any]:
        """Entry `placeholders`; empty where there are none."""
        mean = self._count.value()
        return {"placeholders": {"mean": mean}} if mean > 0 else {}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        return {}


MIXES = ("pair_mix", "query_mix")
_MOST_MIXES = 2


@dataclass(frozen=True)
class HardNegative:
    """Hard negative of a query.

    Attributes:
        index: sample of the negative; -1 for a mix, and where it is unknown.
        score: score with the query, before the temperature.
        share: share of the query's gradient over all its negatives except placeholders.
        kind: shared, mined, pair_mix or query_mix.
    """

    index: int
    score: float
    share: float
    kind: str


@torch.no_grad()
def hardest_negatives(loss: LogitLoss, pairs: Pairs, count: int) -> list[list[HardNegative]]:
    """Hardest negatives of each query: the `count` highest scores, hardest first, with at most two mixes.

    Placeholders, such as a queue's random start, are left out. With several heads, only the first head is used.

    Args:
        loss: loss whose gradient shares are computed.
        pairs: pairs after the transforms.
        count: number of negatives per query.
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
    """The hardest negatives; mixes are limited, because with a mixing transform they would fill the whole list."""
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
