"""Losses beside the formula, as slow loops that read like the equations; nothing here is shared with the package."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sup_con(z1: Tensor, z2: Tensor, labels: list[int], temperature: float) -> Tensor:
    """SupCon, eq. 2, averaged over the 2N anchors; a label of -1 is a class of one sample."""
    rows, count = [*z1, *z2], len(z1)
    classes = [label if label >= 0 else -1 - i for i, label in enumerate(labels)] * 2
    total = torch.zeros((), dtype=z1.dtype)
    for i in range(2 * count):
        others = [a for a in range(2 * count) if a != i]
        denominator = sum(torch.exp(rows[i] @ rows[a] / temperature) for a in others)
        positives = [p for p in others if classes[p] == classes[i]]
        logs = sum(torch.log(torch.exp(rows[i] @ rows[p] / temperature) / denominator) for p in positives)
        total = total - logs / len(positives)
    return total / (2 * count)


def sup_con_queue(
    query: Tensor, key: Tensor, queue: Tensor, index: list[int], queue_index: list[int], labels: list[int], tau: float
) -> Tensor:
    """SupCon where A is the key and the queue without the query's own sample."""
    total = torch.zeros((), dtype=query.dtype)
    for i, sample in enumerate(index):
        rows = [key[i]] + [queue[j] for j, of in enumerate(queue_index) if of != sample]
        known = [labels[sample]] + [labels[of] if of >= 0 else -1 for of in queue_index if of != sample]
        denominator = sum(torch.exp(query[i] @ row / tau) for row in rows)
        chosen = [0] + [j for j in range(1, len(rows)) if known[j] == known[0] and known[0] >= 0]
        total = total - sum(torch.log(torch.exp(query[i] @ rows[j] / tau) / denominator) for j in chosen) / len(chosen)
    return total / len(index)


def look(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    index: list[int],
    queue_index: list[int],
    labels: list[int],
    neighbours: int,
    tau: float,
) -> Tensor:
    """LOOK query by query: leave-one-out neighbours among labelled rows, and who stands in where none is alike."""
    losses = []
    for i, sample in enumerate(index):
        voting = [j for j, of in enumerate(queue_index) if of >= 0 and of != sample and labels[of] >= 0]
        voting.sort(key=lambda j: -(query[i] @ queue[j]).item())
        alike = [j for j in voting if labels[queue_index[j]] == labels[sample]]
        near = voting[:neighbours]
        if not set(near) & set(alike) and alike:
            near = [*near, alike[0]]
        weights = {j: torch.exp(query[i] @ queue[j] / tau) for j in near}
        if alike:
            same = sum(weights[j] for j in near if j in alike)
            losses.append(-torch.log(same / sum(weights.values())))
        else:
            own = torch.exp(query[i] @ key[i] / tau)
            losses.append(-torch.log(own / (own + sum(weights.values()))))
    return torch.stack(losses)


def scalable_nca(query: Tensor, memory: Tensor, index: list[int], labels: list[int], tau: float) -> Tensor:
    """Scalable NCA (Wu, Efros and Yu, ECCV 2018), -log Σ_{same class} p_ij; row j of the memory is of sample j.

    A query whose class has no other row is dropped from the sum, and still counts in the mean.
    """
    total = torch.zeros((), dtype=query.dtype)
    for i, sample in enumerate(index):
        similar = [torch.exp(query[i] @ row / tau) for row in memory]
        others = [j for j in range(len(memory)) if j != sample]
        same = [similar[j] for j in others if labels[j] == labels[sample]]
        if same:
            total = total - torch.log(sum(same) / sum(similar[j] for j in others))
    return total / len(index)


def sim_siam(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> float:
    """SimSiam, eq. 4, of raw rows."""
    return sum(-cosine(p1[i], z2[i]) / 2 - cosine(p2[i], z1[i]) / 2 for i in range(len(p1))) / len(p1)


def byol(q1: Tensor, q2: Tensor, z1: Tensor, z2: Tensor) -> float:
    """BYOL, eq. 2 and its symmetric sum, of raw rows."""
    return sum(2 - 2 * cosine(q1[i], z2[i]) + 2 - 2 * cosine(q2[i], z1[i]) for i in range(len(q1))) / len(q1)


def barlow_twins(z1: Tensor, z2: Tensor, redundancy: float) -> float:
    """Barlow Twins, eqs. 1 and 2, with the authors' 1e-5 beside the variance."""
    count, width = z1.shape
    first, second = ([_standardised(rows[:, k].tolist()) for k in range(width)] for rows in (z1, z2))
    total = 0.0
    for a in range(width):
        for b in range(width):
            correlation = sum(first[a][n] * second[b][n] for n in range(count)) / count
            total += (1 - correlation) ** 2 if a == b else redundancy * correlation**2
    return total


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def _standardised(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [(value - mean) / math.sqrt(variance + 1e-5) for value in values]
