"""Transforms, temperatures, corrected objectives and weights as slow loops; nothing here is shared with the package."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def unit(row: Tensor) -> Tensor:
    return row / torch.sqrt(sum(value * value for value in row))


def mochi_negatives(
    query: Tensor, offered: Sequence[Tensor], hardest: int, s: int, s_prime: int, draws: Sequence[float]
) -> list[Tensor]:
    """MoCHi, sections 4.1 and 4.2: the mixes of one query; `draws` are 3s + 2s′ uniform numbers.

    They are the first row, how many places on the second is, the share; then the row and twice the query's share.
    """
    hard = sorted(offered, key=lambda row: -float(query @ row))[:hardest]
    n = len(hard)
    mixes = []
    for number in range(s):
        i = math.floor(draws[number] * n)
        j = (i + 1 + math.floor(draws[s + number] * (n - 1))) % n
        a = draws[2 * s + number]
        mixes.append(unit(a * hard[i] + (1 - a) * hard[j]))
    for number in range(s_prime):
        j = math.floor(draws[3 * s + number] * n)
        b = draws[3 * s + s_prime + number] / 2
        mixes.append(unit(b * query + (1 - b) * hard[j]))
    return [mix.detach() for mix in mixes]


def extrapolated(query: Tensor, key: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """FT, positive extrapolation, a λ for each number."""
    moved_query, moved_key = torch.zeros_like(query), torch.zeros_like(key)
    for i in range(len(query)):
        for d in range(query.shape[1]):
            moved_query[i, d] = step[i, d] * query[i, d] + (1 - step[i, d]) * key[i, d]
            moved_key[i, d] = step[i, d] * key[i, d] + (1 - step[i, d]) * query[i, d]
    return moved_query, moved_key


def interpolated(keys: Tensor, permutation: Sequence[int], step: Tensor) -> Tensor:
    """FT, negative interpolation, a λ for each number."""
    mixed = torch.zeros_like(keys)
    for r in range(len(keys)):
        for d in range(keys.shape[1]):
            mixed[r, d] = step[r, d] * keys[r, d] + (1 - step[r, d]) * keys[permutation[r], d]
    return mixed


def amcl_logit(query: Tensor, other: Tensor, tau: float | Tensor, beta: float) -> Tensor:
    """s/τ - β Ω(τ), Ω(τ) = d/2 log τ + 1/τ."""
    tau = torch.as_tensor(tau, dtype=query.dtype)
    return (query @ other) / tau - beta * (len(query) / 2 * torch.log(tau) + 1 / tau)


def network_tau(
    network: torch.nn.Sequential, z: Tensor, other: Tensor, lowest: float, highest: float, form: str = "concat"
) -> Tensor:
    """lowest + (highest - lowest) sigmoid(a); a = ½ (m([z, z′]) + m([z′, z])) or φ(z) · φ(z′), of two layers each."""

    def layers(row: Tensor) -> Tensor:
        hidden = network[0].weight @ row + network[0].bias
        return network[2].weight @ torch.where(hidden > 0, hidden, 0.0) + network[2].bias

    if form == "product":
        agreement = layers(z) @ layers(other)
    else:
        agreement = (layers(torch.cat([z, other]))[0] + layers(torch.cat([other, z]))[0]) / 2
    return lowest + (highest - lowest) / (1 + torch.exp(-agreement))


def hcl(z1: Tensor, z2: Tensor, temperature: float, positive_share: float, beta: float, floor: bool = True) -> Tensor:
    """HCL with w_j = e_j^β / mean e^β; the debiased loss at β = 0; averaged over the 2N anchors."""
    rows, count = [*z1, *z2], len(z1)
    total = torch.zeros((), dtype=z1.dtype)
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        e_plus = torch.exp(rows[i] @ rows[partner] / temperature)
        e = [torch.exp(rows[i] @ rows[j] / temperature) for j in range(2 * count) if j not in (i, partner)]
        n = len(e)
        mean = sum(each**beta for each in e) / n
        g = (sum(each**beta / mean * each for each in e) - n * positive_share * e_plus) / (1 - positive_share)
        if floor:
            g = torch.maximum(g, torch.tensor(n * math.exp(-1 / temperature), dtype=z1.dtype))
        total = total - torch.log(e_plus / (e_plus + g))
    return total / (2 * count)


class BadPairs:
    """DBPM with a list of past losses for each sample, which it has none of where no batch ever held the sample."""

    def __init__(self, samples: int, warmup: int, noisy: float, faulty: float, density: bool = False) -> None:
        self.history: list[list[float]] = [[] for _ in range(samples)]
        self.warmup, self.noisy, self.faulty, self.density = warmup, noisy, faulty, density
        self.flagged: set[int] = set()
        self.mean = self.deviation = 0.0

    def begin_epoch(self, epoch: int) -> None:
        past = {i: sum(losses) / len(losses) for i, losses in enumerate(self.history) if losses}
        if epoch < self.warmup or not past:
            return
        self.mean = sum(past.values()) / len(past)
        self.deviation = math.sqrt(sum((m - self.mean) ** 2 for m in past.values()) / len(past))
        low, high = self.mean - self.noisy * self.deviation, self.mean + self.faulty * self.deviation
        self.flagged = {i for i, m in past.items() if m <= low or m >= high}

    def weights(self, losses: Sequence[float], index: Sequence[int]) -> list[float]:
        """One a query; the queries of one sample are pooled."""
        present = {i: [loss for loss, of in zip(losses, index, strict=True) if of == i] for i in set(index)}
        pooled = {i: sum(each) / len(each) for i, each in present.items()}
        for i, loss in pooled.items():
            self.history[i].append(loss)
        return [self._weight(pooled[i]) if i in self.flagged else 1.0 for i in index]

    def _weight(self, loss: float) -> float:
        bell = math.exp(-0.5 * ((loss - self.mean) / self.deviation) ** 2)
        return bell / (self.deviation * math.sqrt(2 * math.pi)) if self.density else bell
