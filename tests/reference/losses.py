"""Losses as slow loops that read like the equations; nothing here is shared with the package."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """SimCLR, eq. 1, averaged over the 2N anchors."""
    rows = [*z1, *z2]
    count = len(z1)
    total = torch.zeros((), dtype=z1.dtype)
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        denominator = sum(torch.exp(rows[i] @ rows[k] / temperature) for k in range(2 * count) if k != i)
        total = total - torch.log(torch.exp(rows[i] @ rows[partner] / temperature) / denominator)
    return total / (2 * count)


def dcl(z1: Tensor, z2: Tensor, temperature: float, sigma: float | None = None) -> Tensor:
    """DCL, eq. 6, over both directions; weighted as in DCLW where sigma is given."""
    count = len(z1)
    total = torch.zeros((), dtype=z1.dtype)
    mean = sum(math.exp(float(z1[j] @ z2[j]) / (sigma or 1)) for j in range(count)) / count
    for first, second in ((z1, z2), (z2, z1)):
        for i in range(count):
            weight = 1.0 if sigma is None else 2 - math.exp(float(first[i] @ second[i]) / sigma) / mean
            negatives = sum(
                torch.exp(first[i] @ view[j] / temperature) for view in (first, second) for j in range(count) if j != i
            )
            total = total - weight * (first[i] @ second[i]) / temperature + torch.log(negatives)
    return total / (2 * count)


def moco(query: Tensor, key: Tensor, queue: Tensor, index: Tensor, queue_index: Tensor, temperature: float) -> Tensor:
    """MoCo, eq. 1, the query's own sample left out of the queue, averaged."""
    total = torch.zeros((), dtype=query.dtype)
    for i in range(len(query)):
        positive = torch.exp(query[i] @ key[i] / temperature)
        others = [
            torch.exp(query[i] @ queue[j] / temperature)
            for j in range(len(queue))
            if not (queue_index[j] == index[i] and index[i] >= 0)
        ]
        total = total - torch.log(positive / (positive + sum(others)))
    return total / len(query)
