"""Statistics of the pairs of one training step: a row of ``scores.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.losses import LogitLoss, Loss, LossOutput, PairWeighting
from contrast.losses.logits import positive_logits
from contrast.observation.blocks import RANK_ENDS, Block
from contrast.observation.hardness import COUPLING_BINS, GradientShares, Hardness
from contrast.observation.health import Order, Rows, health, uniformity
from contrast.observation.negatives import per_query
from contrast.observation.scores import BINS, Scores
from contrast.observation.sums import SHARES, Average, array, draws, some_queries
from contrast.observation.temperatures import Temperatures, single_temperature
from contrast.pairs import Pairs

__all__ = ["HEADER", "Observation", "RawRows", "observe"]

HEADER = {
    "format": 2,
    "edges": [round(-1 + 2 * edge / BINS, 6) for edge in range(BINS + 1)],
    "shares": list(SHARES),
    "rank_ends": list(RANK_ENDS),
    "coupling_edges": [round(edge / COUPLING_BINS, 6) for edge in range(COUPLING_BINS + 1)],
}
"""First line of ``scores.jsonl``: how to read its rows (format, bin edges, quantiles, rank groups)."""


class RawRows(NamedTuple):
    """Network outputs of a step before normalisation.

    Attributes:
        features: output of the backbone, (n, d).
        embeddings: output of the projection head, (n, e), or (h, n, e) with heads.
        index: sample of each row, (n,), in the order of both.
    """

    features: Float[Tensor, "n d"]
    embeddings: Float[Tensor, "*h n e"]
    index: Int[Tensor, " n"]  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here


@torch.inference_mode()
@np.errstate(all="ignore")  # a non-finite loss gives such numbers, just before the run is stopped
def observe(
    loss: Loss,
    output: LossOutput,
    labels: Int[Tensor, " n"] | None = None,
    raw: RawRows | None = None,
    queries: int | None = None,
) -> Observation:
    """Compute the statistics of one training step's pairs, over all directions.

    Args:
        loss: loss that was computed on the pairs.
        output: output of the loss; it holds the pairs after the transforms.
        labels: labels of the training samples, (n,), -1 for no label; used for statistics only.
        raw: network outputs of this step; None leaves out their health.
        queries: number of queries whose negatives are examined, over all processes and directions; None for all.

    Returns:
        The step's sums; `Observation.row` turns them into a row of ``scores.jsonl``.
    """
    seen = Observation(loss, output, labels)
    most = None if queries is None else max(1, queries // len(output.pairs))
    drawn = [draws(pairs.index, pairs.view) for pairs in output.pairs]
    for pairs, draw in zip(output.pairs, drawn, strict=True):
        seen.add_positives(pairs)
        if isinstance(loss, LogitLoss):
            seen.add_negatives(loss, some_queries(pairs, most, draw=draw))
    seen.add_weights(output)
    seen.add_health(output.pairs, torch.cat(drawn), raw)
    return seen


class Observation:
    """Statistics of one step; sums over pairs stay on the device, and `row` synchronises with it.

    Args:
        loss: loss that was computed on the pairs.
        output: output of the loss.
        labels: labels of the training samples, (n,); None without labels.
    """

    def __init__(self, loss: Loss, output: LossOutput, labels: Int[Tensor, " n"] | None) -> None:
        device = output.loss.device
        self._loss, self._labels = loss, labels
        self._scores = Scores(device)
        self._hardness, self._gradients = Hardness(device), GradientShares(device)
        self._proxy = {name: Average(device) for name in ("proxy/accuracy", "proxy/accuracy_without_mixes")}
        self._weights: dict[str, Average] = {}
        self._alignment, self._placeholders = Average(device), Average(device)
        self._temperatures: Temperatures | None = None
        self._temperature: Tensor | None = None
        self._asked = self._mixes = False
        self._health: dict[str, Any] = {}
        if isinstance(loss, LogitLoss):
            self._temperature = single_temperature(loss.temperature)
            if loss.temperature.by_pair:
                heads = output.pairs[0].query.shape[:-2].numel()
                self._temperatures = Temperatures(loss.temperature, device, heads)

    def add_positives(self, pairs: Pairs) -> None:
        """Add the queries of one direction with their positives."""
        apart = (pairs.query - pairs.positive).double()
        self._alignment.add(array(torch.linalg.vecdot(apart, apart).flatten()))
        if isinstance(self._loss, LogitLoss):
            score = positive_logits(pairs, self._loss.temperature).score
            if self._temperatures is not None:
                self._temperatures.add_positives(pairs, score)
        else:
            score = torch.cosine_similarity(pairs.query, pairs.positive, dim=-1)
        self._scores.add_positives(score)

    def add_negatives(self, loss: LogitLoss, pairs: Pairs) -> None:
        """Add queries of one direction with their negatives."""
        positive, negatives = loss.logits(pairs)

        def look(block: Block) -> None:
            self._scores.add_block(block)
            if self._temperatures is not None:
                self._temperatures.add_negatives(pairs, block)

        seen = per_query(loss, pairs, positive, negatives, self._labels, look)
        self._placeholders.add(seen.placeholders)
        if not seen.kinds:
            return
        self._asked = True
        self._mixes |= bool({"pair_mix", "query_mix"} & seen.kinds)
        score, logit = (array(each.flatten()) for each in (positive.score, positive.logit))
        self._scores.add_hardest(score, seen)
        self._hardness.add(seen)
        if self._labels is not None:
            self._hardness.add_chance(self._labels, pairs.index)
        self._gradients.add(seen, logit)
        real, mixed = seen.hardest
        some = seen.negatives > 0
        self._proxy["proxy/accuracy"].add(score > np.maximum(real, mixed), some)
        self._proxy["proxy/accuracy_without_mixes"].add(score > real, some)

    def add_weights(self, output: LossOutput) -> None:
        """Add the flags and weights that the loss's weighting gave the step's samples."""
        weighting = getattr(self._loss, "weighting", None)
        flags = weighting.flags() if isinstance(weighting, PairWeighting) else {}
        if not flags or output.weights is None:
            return
        index = torch.cat([pairs.index for pairs in output.pairs])
        values = {f"bad_pairs/{name}": flagged[index] for name, flagged in flags.items()}
        flagged = torch.stack(list(values.values())).any(dim=0).cpu().numpy()
        self._weights = {name: Average(output.loss.device) for name in (*values, "bad_pairs/weight")}
        for name, each in values.items():
            self._weights[name].add(array(each))
        self._weights["bad_pairs/weight"].add(array(output.weights), flagged)

    def add_health(self, directions: Sequence[Pairs], draw: Tensor, raw: RawRows | None) -> None:
        """Add the health of the embeddings of all directions and of the network outputs.

        Args:
            directions: pairs of each direction.
            draw: result of `draws` for all queries, in the order of the directions.
            raw: network outputs of this step, or None.
        """
        unit = self._loss.unit_embeddings
        queries = torch.cat([pairs.query for pairs in directions], dim=-2)
        index = torch.cat([pairs.index for pairs in directions])
        order = Order(index, draw)
        by_head = [Rows(each, order) for each in (queries.flatten(0, -3) if queries.ndim > 2 else queries[None])]
        self._health["embedding"] = _mean([health(rows, unit) | {"uniformity": uniformity(rows)} for rows in by_head])
        if raw is not None:
            order = order.of(raw.index)
            heads = raw.embeddings.flatten(0, -3) if raw.embeddings.ndim > 2 else raw.embeddings[None]
            norms = [{"norm": Rows(each, order).norms()} for each in heads]
            self._health["embedding"] |= _mean(norms)
            self._health["features"] = health(Rows(raw.features, order), unit=False)

    @np.errstate(all="ignore")
    def row(self) -> dict[str, Any]:
        """All statistics as a row of ``scores.jsonl``, over all processes.

        This is a collective call: every process must make it.
        """
        row = self._scores.row()
        if self._asked:
            row |= self._hardness.row()
            row |= self._gradients.row(labelled="false_negatives" in row)
        placeholders = self._placeholders.value() if isinstance(self._loss, LogitLoss) else 0.0
        if placeholders > 0:
            row["placeholders"] = {"mean": placeholders}
        if self._temperature is not None:
            row["temperature"] = {"value": self._temperature.item()}
        if self._temperatures is not None:
            row["temperature"] = {"heads": self._temperatures.row()}
        embedding = {"alignment": self._alignment.value()} | self._health["embedding"]
        if self._asked:
            margin = self._scores.margin.row()
            embedding["margin"] = {"mean": margin["mean"], "quantiles": margin["quantiles"]}
        return row | self._health | {"embedding": embedding}

    def scalars(self) -> dict[str, float]:
        """Scalars for ``metrics.jsonl`` that are not part of a row; a collective call, so every process must make it.

        - `proxy/accuracy`: share of queries whose positive has a higher score than all negatives.
        - `proxy/accuracy_without_mixes`: the same against real rows only; present where there are mixes.
        - `bad_pairs/noisy`, `bad_pairs/faulty`: shares of the step's samples that the weighting flags, by its
          flags' names.
        - `bad_pairs/weight`: mean weight of the flagged samples.

        A scalar without a value at this step is left out, for example the weight where no sample is flagged.
        """
        names = [name for name in self._proxy if self._asked and (self._mixes or name == "proxy/accuracy")]
        found = {name: each.value() for name, each in ({n: self._proxy[n] for n in names} | self._weights).items()}
        return {name: value for name, value in found.items() if not math.isnan(value)}


def _mean(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over heads of nested mappings and lists of numbers with the same structure."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _mean_of([part[name] for part in parts]) for name in parts[0]}


def _mean_of(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return _mean(values)
    if isinstance(values[0], list):
        return [_mean_of(each) for each in zip(*values, strict=True)]
    return values[0] if isinstance(values[0], int) else math.fsum(values) / len(values)
