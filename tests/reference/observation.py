"""What a row of ``scores.jsonl`` holds, by loops over every query and every negative."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from contrast import Pairs
from contrast.losses import ContrastiveLoss, NegativeLogits, PositiveLogits, Tile
from contrast.pairs import MINED, NOT_OFFERED, PAIR_MIX

SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Matrix(NegativeLogits):
    """Negatives as a matrix of logits that autograd can ask about."""

    def __init__(self, score: Tensor, logit: Tensor, offered: Tensor, of_score: Any) -> None:
        self.score, self.logit, self.offered, self.of_score = score, logit, offered, of_score
        self.count = offered.sum(dim=1)

    def logsumexp(self, scale: float = 1.0) -> Tensor:
        return torch.stack(
            [(scale * row[kept]).logsumexp(0) for row, kept in zip(self.logit, self.offered, strict=True)]
        )

    def hardest(self) -> tuple[Tensor, Tensor]:
        place = self.score.masked_fill(~self.offered, -math.inf).argmax(dim=1)
        rows = torch.arange(len(place))
        return self.score[rows, place], self.logit[rows, place]

    def logit_of(self, score: float) -> Tensor:
        return self.of_score(torch.tensor(score, dtype=self.logit.dtype))

    def tiles(self) -> Iterator[Tile]:
        raise AssertionError("no objective asks for tiles")


@dataclass
class Negative:
    """One query's meeting with one negative."""

    score: float
    logit: float
    source: str
    kind: str
    gradient: float
    same: float | None


@dataclass
class Query:
    """A query with everything that it meets: negatives, and beside them placeholders, which only the loss counts."""

    positive: float
    logit: float
    pull: float
    negatives: list[Negative]
    placeholders: list[Negative]
    chance: float | None = None


def queries_of(loss: ContrastiveLoss, pairs: Pairs, labels: Tensor | None) -> list[Query]:
    """Every query of pairs without heads."""
    rows, offered, kinds, parents = [], [], [], []
    for i in range(len(pairs.index)):
        of = [each.tolist() if each.ndim else [int(each)] for each in pairs.negative_index]
        left = [] if pairs.excluded is None else pairs.excluded[i].tolist()
        rows.append(list(pairs.negatives))
        own = int(pairs.index[i])
        offered.append([not (own >= 0 and own in each) and j not in left for j, each in enumerate(of)])
        start = [False] * len(of) if pairs.placeholder is None else pairs.placeholder.tolist()
        kinds.append(["placeholder" if each else "shared" for each in start])
        parents.append(list(of))
        if pairs.own_negatives is not None and pairs.own_negative_index is not None:
            for j, index in enumerate(pairs.own_negative_index[i].tolist()):
                rows[i].append(pairs.own_negatives[i, j])
                offered[i].append(index != NOT_OFFERED and (index == -1 or index != own))
                kind = MINED if pairs.own_negative_kind is None else int(pairs.own_negative_kind[j])
                kinds[i].append("mined" if kind == MINED else "pair_mix" if kind == PAIR_MIX else "query_mix")
                made = pairs.own_negative_parents
                parents[i].append([index] if made is None else made[i, j].tolist())
    matrix = torch.stack([torch.stack(each) for each in rows])
    score = torch.stack(
        [torch.stack([q @ row for row in others]) for q, others in zip(pairs.query, matrix, strict=True)]
    )
    with torch.no_grad():
        logit = loss.temperature(score, pairs.query[:, None], matrix)
        plus = (pairs.query * pairs.positive).sum(dim=1)
        positive = loss.temperature(plus, pairs.query, pairs.positive)
    leaf, pulled = logit.clone().requires_grad_(), positive.clone().requires_grad_()
    asked = Matrix(score, leaf, torch.tensor(offered), loss.temperature.of_score)
    losses = loss.of_logits(pairs, PositiveLogits(plus, pulled), asked)
    gradient, pull = torch.autograd.grad(losses.sum(), [leaf, pulled])
    found = []
    for i in range(len(pairs.index)):
        met = [
            Negative(
                float(score[i, j]), float(logit[i, j]), "mixed" if "mix" in kinds[i][j] else kinds[i][j], kinds[i][j],
                abs(float(gradient[i, j])), same_class(labels, int(pairs.index[i]), parents[i][j]),
            )
            for j in range(len(offered[i]))
            if offered[i][j]
        ]  # fmt: skip
        chance = at_random(labels, int(pairs.index[i]))
        real, start = ([each for each in met if (each.kind == "placeholder") == of] for of in (False, True))
        found.append(Query(float(plus[i]), float(positive[i]), abs(float(pull[i])), real, start, chance))
    return found


def at_random(labels: Tensor | None, own: int) -> float | None:
    """Which share of the other samples with a label are of the query's class."""
    if labels is None or own < 0 or labels[own] < 0:
        return None
    others = [int(label) for sample, label in enumerate(labels) if sample != own and label >= 0]
    return sum(label == int(labels[own]) for label in others) / len(others)


def same_class(labels: Tensor | None, own: int, parents: list[int]) -> float | None:
    if labels is None or own < 0 or labels[own] < 0:
        return None
    told = [int(labels[each]) for each in parents if each >= 0 and labels[each] >= 0]
    return sum(each == int(labels[own]) for each in told) / len(told) if told else None


def described(queries: list[Query]) -> dict[str, Any]:
    """The row, but for what is asked of embeddings."""
    every = [each for query in queries for each in query.negatives]
    row: dict[str, Any] = {"positive": histogram([query.positive for query in queries])}
    if any(query.placeholders for query in queries):
        row["placeholders"] = {"mean": mean([float(len(query.placeholders)) for query in queries])}
    if not every:  # as of a step that meets a queue's random start only
        return row
    chosen = {
        "negative": every,
        "own": [each for each in every if each.kind != "shared"],
        "synthetic": [each for each in every if each.source == "mixed"],
        **{kind: [each for each in every if each.kind == kind] for kind in ("mined", "pair_mix", "query_mix")},
        "same_class": [each for each in every if each.same == 1],
        "hardest": [each for query in queries for each in ranked(query.negatives)[:10]],
    }
    row |= {name: histogram([each.score for each in some]) for name, some in chosen.items() if some}
    row["separation"] = apart([query.positive for query in queries], [each.score for each in every])
    row["hardness"] = hardness(queries)
    labelled = [each for each in every if each.same is not None]
    if labelled:
        sources = {"all": every} | {
            source: some
            for source in ("shared", "mined", "mixed")
            if (some := [e for e in every if e.source == source])
        }
        row["false_negatives"] = {name: rate(some) for name, some in sources.items()}
        row["false_negatives"]["random"] = mean([q.chance for q in queries if q.chance is not None])
        row["false_negatives"]["denominator"] = mean(
            [sum(math.exp(e.logit) * (e.same or 0) for e in q.negatives) / sum(math.exp(e.logit) for e in q.negatives)
             for q in queries]
        )  # fmt: skip
    row["gradient"] = gradients(queries, bool(labelled))
    multiplier = [
        part / (part + math.exp(q.logit))
        for q in queries
        for part in [sum(math.exp(e.logit) for e in q.negatives + q.placeholders)]
    ]
    row["coupling"] = histogram(multiplier, 50, 0.0, 1.0)
    row["margin"] = mean([query.positive - ranked(query.negatives)[0].score for query in queries])
    return row


def ranked(negatives: list[Negative]) -> list[Negative]:
    return sorted(negatives, key=lambda each: -each.score)


def hardness(queries: list[Query]) -> dict[str, Any]:
    """By rank 1, 2, 3-4, 5-8 up to 65-128, and the rest."""
    starts = [0, 1, 2, 4, 8, 16, 32, 64, 128, 10**9]
    spans = [(a, b) for a, b in itertools.pairwise(starts) if any(len(q.negatives) > a for q in queries)]
    found: dict[str, Any] = {
        "score": [mean([e.score for q in queries for e in ranked(q.negatives)[a:b]]) for a, b in spans],
        "gradient": [
            mean([sum(e.gradient for e in ranked(q.negatives)[a:b]) / total for q in queries if (total := whole(q))])
            for a, b in spans
        ],
    }
    same = {}
    for source in ("all", "shared", "mined", "mixed"):
        by_query = [ranked([e for e in q.negatives if source in ("all", e.source)]) for q in queries]
        groups = [[e for some in by_query for e in some[a:b] if e.same is not None] for a, b in spans]
        while groups and not groups[-1]:
            groups.pop()
        if groups:
            same[source] = [rate(group) if group else None for group in groups]
    return found | ({"same_class": same} if same else {})


def gradients(queries: list[Query], labelled: bool) -> dict[str, Any]:
    some = [query for query in queries if whole(query) > 0]
    shares = [[each.gradient / whole(query) for each in query.negatives] for query in some]
    effective = [math.exp(-sum(p * math.log(p) for p in share if p > 0)) for share in shares]
    found: dict[str, Any] = {
        "effective": mean(effective),
        "negatives": mean([len(query.negatives) for query in queries]),
        "top": {str(n): mean([sum(sorted(share)[-n:]) for share in shares]) for n in (1, 10, 100)},
        "pull": mean([query.pull for query in queries]),
        "push": mean([sum(each.gradient for each in q.negatives + q.placeholders) for q in queries]),
    }
    if any(each.source == "mixed" for query in queries for each in query.negatives):
        found["synthetic"] = mean(
            [sum(e.gradient for e in q.negatives if e.source == "mixed") / whole(q) for q in some]
        )
    if labelled:
        found["same_class"] = mean([sum(e.gradient * (e.same or 0) for e in q.negatives) / whole(q) for q in some])
    return found


def whole(query: Query) -> float:
    return sum(each.gradient for each in query.negatives)


def rate(negatives: list[Negative]) -> float:
    told = [each.same for each in negatives if each.same is not None]
    return mean(told)


def histogram(values: list[float], bins: int = 100, low: float = -1.0, high: float = 1.0) -> dict[str, Any]:
    counts = [0] * bins
    for value in values:
        counts[min(max(math.floor((value - low) * bins / (high - low)), 0), bins - 1)] += 1
    center = mean(values)
    std = math.sqrt(mean([(value - center) ** 2 for value in values]))
    return {"counts": counts, "mean": center, "std": std, "quantiles": quantiles(values, bins, low, high)}


def quantiles(values: list[float], bins: int, low: float, high: float) -> list[float]:
    """Upper edges of the twentieths of bins in which the shares are reached."""
    width = (high - low) / (20 * bins)
    fine = sorted(min(max(math.floor((value - low) / width), 0), 20 * bins - 1) for value in values)
    return [low + (fine[max(0, math.ceil(share * len(fine) - 1e-9) - 1)] + 1) * width for share in SHARES]


def apart(positive: list[float], negative: list[float]) -> dict[str, float]:
    p, n = histogram(positive), histogram(negative)
    scale = math.sqrt((p["std"] ** 2 + n["std"] ** 2) / 2)
    fine = [[min(max(math.floor((each + 1) * 1000), 0), 1999) for each in side] for side in (positive, negative)]
    wins = sum((a > b) + (a == b) / 2 for a in fine[0] for b in fine[1])
    return {
        "overlap": sum(
            min(a / len(positive), b / len(negative)) for a, b in zip(p["counts"], n["counts"], strict=True)
        ),
        "d_prime": (p["mean"] - n["mean"]) / scale,
        "auc": wins / (len(positive) * len(negative)),
    }


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def near(found: Any, expected: Any, where: str = "") -> None:
    """Equal but for rounding, whatever they are made of; what `found` has more is not asked."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert name in found, f"{where}/{name}"
            near(found[name], value, f"{where}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            near(one, other, f"{where}/{place}")
    elif expected is None or math.isnan(expected):
        assert found is None or math.isnan(found), where
    else:
        # Powers of sums of logarithms in float64; entropies of shares near 0 or 1 lose a few digits.
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-10), where
