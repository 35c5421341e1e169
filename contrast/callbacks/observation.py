"""What one step of training shows of its pairs: histograms of scores, and means by method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from contrast.callbacks.score_sums import Average, ScoreSums
from contrast.losses import AdaptiveTemperature, BadPairMining, ContrastiveLoss, Loss, LossOutput, Tile
from contrast.pairs import MINED, PAIR_MIX, QUERY_MIX, Pairs

__all__ = ["Observation", "observe"]

_KINDS = {MINED: "mined", PAIR_MIX: "pair_mix", QUERY_MIX: "query_mix"}


@dataclass(frozen=True)
class Observation:
    """Sums of one step, still on the device.

    Attributes:
        histograms: of scores: `positive`, `negative` (all), and `mined`, `pair_mix`, `query_mix` where there are any.
        averages: `proxy/accuracy`, the share of queries whose positive's score outranks all negatives', and
            `proxy/accuracy_without_mixes`, the same against real rows alone, where there are mixes;
            `temperature/head{h}/positive` and `.../negative` of an `AdaptiveTemperature`; `bad_pairs/noisy`,
            `bad_pairs/faulty` and `bad_pairs/weight` of a `BadPairMining`: shares of the step's samples, and the mean
            weight of those that are flagged.
    """

    histograms: Mapping[str, ScoreSums]
    averages: Mapping[str, Average]


@torch.no_grad()
def observe(loss: Loss, output: LossOutput) -> Observation:
    """Add up what the pairs of one step show, all directions together."""
    seen = _Sums(output.loss.device)
    for pairs in output.pairs:
        if isinstance(loss, ContrastiveLoss):
            seen.add(loss, pairs)
        else:
            seen.histogram("positive").add(torch.cosine_similarity(pairs.query, pairs.positive, dim=-1))
            seen.histogram("negative")
    weighting = getattr(loss, "weighting", None)
    if isinstance(weighting, BadPairMining) and output.weights is not None:
        seen.add_weights(weighting, output)
    return Observation(seen.histograms, seen.averages)


class _Sums:
    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.histograms: dict[str, ScoreSums] = {}
        self.averages: dict[str, Average] = {}

    def histogram(self, name: str) -> ScoreSums:
        return self.histograms.setdefault(name, ScoreSums(self.device))

    def average(self, name: str) -> Average:
        return self.averages.setdefault(name, Average(self.device))

    def add(self, loss: ContrastiveLoss, pairs: Pairs) -> None:
        positives, negatives = loss.logits(pairs)
        self.histogram("positive").add(positives.score)
        temperature = loss.temperature if isinstance(loss.temperature, AdaptiveTemperature) else None
        if temperature is not None:
            self._add_temperatures("positive", temperature.of_pairs(pairs.query, pairs.positive))
        hardest = {mixed: torch.full_like(positives.score, -torch.inf) for mixed in (False, True)}
        with_mixes = False
        for tile in negatives.tiles():
            self.histogram("negative").add(tile.score, tile.offered)
            offered, made = tile.score.masked_fill(~tile.offered, -torch.inf), _made(pairs, tile)
            for mixed, columns in ((False, offered[..., ~made]), (True, offered[..., made])):
                if columns.shape[-1]:
                    hardest[mixed] = torch.maximum(hardest[mixed], columns.amax(dim=-1))
                    with_mixes |= mixed
            if tile.own:
                self._add_kinds(pairs, tile)
            if temperature is not None:
                self._add_temperatures("negative", temperature.of_pairs(*_meeting(pairs, tile)), tile.offered)
        self._add_proxy(positives.score, hardest, with_mixes)

    def _add_kinds(self, pairs: Pairs, tile: Tile) -> None:
        kinds = pairs.own_negative_kind
        for kind, name in _KINDS.items():
            if kinds is None and kind != MINED:
                continue
            columns = slice(None) if kinds is None else kinds == kind
            if kinds is None or bool((kinds == kind).any()):
                self.histogram(name).add(tile.score[..., columns], tile.offered[..., columns])

    def _add_temperatures(self, side: str, temperature: Tensor, offered: Tensor | None = None) -> None:
        queries = 1 if offered is None else 2  # axes behind the heads'
        by_head = temperature.flatten(0, -queries - 1) if temperature.ndim > queries else temperature[None]
        for head, values in enumerate(by_head):
            self.average(f"temperature/head{head}/{side}").add(values, offered)

    def _add_proxy(self, positive: Tensor, hardest: Mapping[bool, Tensor], with_mixes: bool) -> None:
        self.average("proxy/accuracy").add(positive > torch.maximum(hardest[False], hardest[True]))
        if with_mixes:
            self.average("proxy/accuracy_without_mixes").add(positive > hardest[False])

    def add_weights(self, mining: BadPairMining, output: LossOutput) -> None:
        index = torch.cat([pairs.index for pairs in output.pairs])
        flagged = mining.is_noisy[index] | mining.is_faulty[index]
        assert output.weights is not None
        self.average("bad_pairs/noisy").add(mining.is_noisy[index])
        self.average("bad_pairs/faulty").add(mining.is_faulty[index])
        self.average("bad_pairs/weight").add(output.weights, flagged)


def _made(pairs: Pairs, tile: Tile) -> Tensor:
    """Which columns of a tile are mixes rather than rows of a sample, (t,)."""
    if tile.own and pairs.own_negative_kind is not None:
        return pairs.own_negative_kind != MINED
    return torch.zeros(tile.score.shape[-1], dtype=torch.bool, device=tile.score.device)


def _meeting(pairs: Pairs, tile: Tile) -> tuple[Tensor, Tensor]:
    """Queries and the rows of a tile, shaped to meet each other."""
    query = pairs.query[..., :, None, :]
    if tile.own and pairs.own_negatives is not None:
        return query, pairs.own_negatives
    stop = tile.start + tile.score.shape[-1]
    return query, pairs.negatives[..., None, tile.start : stop, :]
