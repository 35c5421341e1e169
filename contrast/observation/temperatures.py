"""Statistics of temperatures: the single value, or mean, spread and relation to scores of one that differs by pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from contrast.losses import Loss, LossOutput, Temperature
from contrast.observation.blocks import Block
from contrast.observation.observer import ObservedOutput, Observer
from contrast.observation.sums import added_up
from contrast.pairs import Pairs

__all__ = ["SingleTemperature", "Temperatures", "single_temperature"]

_BINS = 20


def single_temperature(temperature: Temperature) -> Tensor | None:
    """τ of a temperature that is the same for all pairs; else None."""
    tau = temperature.single()
    return None if tau is None else tau.detach().float()  # as rows of earlier runs have it


class SingleTemperature(Observer):
    """Observer of a temperature that is the same for all pairs.

    Args:
        temperature: the temperature; one that differs from pair to pair gives no row.
    """

    def __init__(self, temperature: Temperature) -> None:
        self._temperature = temperature
        self._value: Tensor | None = None

    def add(self, loss: Loss, output: LossOutput) -> None:
        self._value = single_temperature(self._temperature)

    def row(self) -> dict[str, Any]:
        return {} if self._value is None else {"temperature": {"value": self._value.item()}}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        return {}


class Temperatures(Observer):
    """Observer of a temperature that differs by pair, for each head: mean and spread of τ, and relation to the score.

    Args:
        temperature: the temperature.
        device: device of the pairs.
        heads: number of heads.
    """

    def __init__(self, temperature: Temperature, device: torch.device, heads: int) -> None:
        self.temperature = temperature
        # Per head: number of pairs, Σ τ, Σ τ², Σ s, Σ s², Σ s τ; then, by bin of the score, counts and sums of τ.
        nothing = torch.zeros(heads, 6 + 2 * _BINS, dtype=torch.float64, device=device)
        self.sums = {"positive": nothing, "negative": nothing.clone()}

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for pairs, score in zip(output.pairs, output.positive, strict=True):
            self._add("positive", score, self.temperature.of_pairs(pairs.query, pairs.positive), None)

    def add_negatives(self, pairs: Pairs, block: Block) -> None:
        tile = block.tile
        stop = tile.start + tile.score.shape[-1]
        query = pairs.query[..., :, None, :]
        if tile.own and pairs.own_negatives is not None:
            rows = pairs.own_negatives[..., tile.start : stop, :]
        else:
            rows = pairs.negatives[..., None, tile.start : stop, :]
        self._add("negative", tile.score, self.temperature.of_pairs(query, rows), tile.offered)

    def row(self) -> dict[str, Any]:
        """Entry `temperature`, with one mapping per head."""
        sums = {side: added_up(each) for side, each in self.sums.items()}
        heads = len(sums["positive"])
        by_head = [{side: _described(each[head]) for side, each in sums.items()} for head in range(heads)]
        return {"temperature": {"heads": by_head}}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        heads = row.get("temperature", {}).get("heads", [])
        return {
            f"temperature/head{head}/{side}": of["mean"]
            for head, sides in enumerate(heads)
            for side, of in sides.items()
            if of
        }

    def _add(self, side: str, score: Tensor, temperature: Tensor, offered: Tensor | None) -> None:
        heads = len(self.sums[side])
        kept = torch.ones_like(score, dtype=torch.bool) if offered is None else offered.expand_as(score)
        s, tau, here = (each.reshape(heads, -1) for each in (score, temperature.expand_as(score), kept))
        weight = here.double()
        s, tau = s.double().masked_fill(~here, 0.0), tau.double().masked_fill(~here, 0.0)
        moments = [weight, tau, tau.square(), s, s.square(), s * tau]
        place = ((s + 1) * (_BINS / 2)).clamp(0, _BINS - 1).long()
        binned = [torch.zeros_like(self.sums[side][:, :_BINS]).scatter_add_(1, place, each) for each in (weight, tau)]
        self.sums[side] += torch.cat([torch.stack([each.sum(dim=1) for each in moments], dim=1), *binned], dim=1)


def _described(sums: Tensor) -> dict[str, Any]:
    count, tau, squares, score, score_squares, products = sums[:6].tolist()
    if not count:
        return {}
    mean, other = tau / count, score / count
    variance, spread = max(squares / count - mean**2, 0.0), max(score_squares / count - other**2, 0.0)
    scale = (variance * spread) ** 0.5
    counts, totals = sums[6:].view(2, _BINS)
    return {
        "mean": mean,
        "std": variance**0.5,
        "correlation": (products / count - mean * other) / scale if scale > 1e-15 else None,
        "by_score": (totals / counts).tolist(),  # NaN in an empty bin, null in the file
    }
