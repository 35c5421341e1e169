"""Statistics of the pairs of one training step: a row of ``scores.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from contrast.losses import LogitLoss, Loss, LossOutput, PairWeighting
from contrast.losses.logits import positive_logits
from contrast.observation.blocks import RANK_ENDS, Block
from contrast.observation.hardness import COUPLING_BINS, GradientShares, Hardness, Placeholders
from contrast.observation.health import Health
from contrast.observation.negatives import PerQuery, per_query
from contrast.observation.observer import ObservedOutput, Observer, RawRows
from contrast.observation.scores import BINS, PretextAccuracy, Scores
from contrast.observation.sums import SHARES, Average, array, draws, some_queries
from contrast.observation.temperatures import SingleTemperature, Temperatures
from contrast.pairs import Pairs

__all__ = ["HEADER", "Observation", "observe"]

HEADER: dict[str, Any] = {
    "format": 2,
    "edges": [round(-1 + 2 * edge / BINS, 6) for edge in range(BINS + 1)],
    "shares": list(SHARES),
    "rank_ends": list(RANK_ENDS),
    "coupling_edges": [round(edge / COUPLING_BINS, 6) for edge in range(COUPLING_BINS + 1)],
}
"""First line of ``scores.jsonl``: how to read its rows (format, bin edges, quantiles, rank groups)."""


@torch.inference_mode()
@np.errstate(all="ignore")  # a non-finite loss gives such numbers, just before the run is stopped
def observe(
    loss: Loss,
    output: LossOutput,
    labels: Int[Tensor, " n"] | None = None,
    raw: RawRows | None = None,
    queries: int | None = None,
    further: Sequence[Observer] = (),
) -> Observation:
    """Compute the statistics of one training step's pairs, over all directions.

    The negatives are read once, in blocks, for all observers.

    Args:
        loss: loss that was computed on the pairs.
        output: output of the loss; it holds the pairs after the transforms.
        labels: labels of the training samples, (n,), -1 for no label; used for statistics only.
        raw: network outputs of this step; None leaves out their health.
        queries: number of queries whose negatives are examined, over all processes and directions; None for all.
        further: observers that see the step too, beside the built-in ones; their rows are not part of the result's.

    Returns:
        The step's sums; `Observation.row` turns them into a row of ``scores.jsonl``.
    """
    seen = Observation(built_in_observers(loss, output))
    most = None if queries is None else max(1, queries // len(output.pairs))
    drawn = tuple(draws(pairs.index, pairs.view) for pairs in output.pairs)
    sampled = tuple(some_queries(pairs, most, draw=draw) for pairs, draw in zip(output.pairs, drawn, strict=True))
    observers = (*seen.observers, *further)
    negatives = tuple(_of_negatives(loss, pairs, labels, observers) for pairs in sampled if isinstance(loss, LogitLoss))
    observed = ObservedOutput(
        loss=output.loss.detach(),
        losses=output.losses,
        weights=output.weights,
        pairs=output.pairs,
        labels=labels,
        raw=raw,
        positive=tuple(_positive_score(loss, pairs) for pairs in output.pairs),
        sampled=sampled,
        negatives=negatives,
        draws=drawn,
    )
    for observer in observers:
        observer.add(loss, observed)
    return seen


def built_in_observers(loss: Loss, output: LossOutput) -> tuple[Observer, ...]:
    """The observers whose rows together are the run's own part of a row of ``scores.jsonl``.

    Args:
        loss: the loss.
        output: its output at an observed step.
    """
    device = output.loss.device
    of_temperature: list[Observer] = []
    if isinstance(loss, LogitLoss):
        of_temperature.append(SingleTemperature(loss.temperature))
        if loss.temperature.by_pair:
            heads = output.pairs[0].query.shape[:-2].numel()
            of_temperature.append(Temperatures(loss.temperature, device, heads))
    return (
        PretextAccuracy(device),
        BadPairWeights(device),
        Scores(device),
        Hardness(device),
        GradientShares(device),
        Placeholders(device),
        *of_temperature,
        Health(device),
    )


def _of_negatives(
    loss: LogitLoss, pairs: Pairs, labels: Int[Tensor, " n"] | None, observers: Sequence[Observer]
) -> PerQuery:
    def look(block: Block) -> None:
        for observer in observers:
            observer.add_negatives(pairs, block)

    return per_query(loss, pairs, *loss.logits(pairs), labels, look)


def _positive_score(loss: Loss, pairs: Pairs) -> Tensor:
    if isinstance(loss, LogitLoss):
        return positive_logits(pairs, loss.temperature).score
    return torch.cosine_similarity(pairs.query, pairs.positive, dim=-1)


class Observation:
    """Statistics of one step, from several observers; sums over pairs stay on the device, and `row` synchronises.

    Args:
        observers: the observers; no two of them record the same key.

    Attributes:
        observers: the observers, in the order of their keys in a row.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = tuple(observers)

    @np.errstate(all="ignore")
    def row(self) -> dict[str, Any]:
        """All statistics as a row of ``scores.jsonl``, over all processes.

        This is a collective call: every process must make it.
        """
        row: dict[str, Any] = {}
        for observer in self.observers:
            part = observer.row()
            assert not row.keys() & part.keys(), f"{type(observer).__name__} records a key that is there already"
            row |= part
        return row

    def scalars(self, row: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Scalars for ``metrics.jsonl``; a collective call, so every process must make it.

        These are some numbers of the row, and numbers that are not part of a row:

        - `proxy/accuracy`: share of queries whose positive has a higher score than all negatives.
        - `proxy/accuracy_without_mixes`: the same against real rows only; present where there are mixes.
        - `bad_pairs/noisy`, `bad_pairs/faulty`: shares of the step's samples that the weighting flags, by its
          flags' names.
        - `bad_pairs/weight`: mean weight of the flagged samples.

        A scalar without a value at this step is left out, for example the weight where no sample is flagged.

        Args:
            row: result of `row`; None gives only the numbers that are not part of a row.
        """
        scalars: dict[str, float] = {}
        for observer in self.observers:
            scalars |= observer.scalars({} if row is None else row)
        return scalars


class BadPairWeights(Observer):
    """Observer of the flags and weights that a loss's weighting gave the step's samples, for ``metrics.jsonl`` only.

    Args:
        device: device of the pairs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights: dict[str, Average] = {}

    def add(self, loss: Loss, output: LossOutput) -> None:
        weighting = getattr(loss, "weighting", None)
        flags = weighting.flags() if isinstance(weighting, PairWeighting) else {}
        if not flags or output.weights is None:
            return
        index = torch.cat([pairs.index for pairs in output.pairs])
        values = {f"bad_pairs/{name}": flagged[index] for name, flagged in flags.items()}
        flagged = torch.stack(list(values.values())).any(dim=0).cpu().numpy()
        self._weights = {name: Average(self._device) for name in (*values, "bad_pairs/weight")}
        for name, each in values.items():
            self._weights[name].add(array(each))
        self._weights["bad_pairs/weight"].add(array(output.weights), flagged)

    def row(self) -> dict[str, Any]:
        return {}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = {name: each.value() for name, each in self._weights.items()}
        return {name: value for name, value in found.items() if not math.isnan(value)}
