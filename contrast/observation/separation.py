"""How far apart two histograms over the same bins are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from contrast.observation.sums import Array

__all__ = ["separation"]


def separation(positive: Array, negative: Array, shown: int) -> dict[str, Any]:
    """Overlap, d′ and area under the curve of positives against negatives.

    overlap ``Σ_i min(p_i, n_i)`` over the shown bins; ``d′ = (μ₊ - μ₋) / √((σ₊² + σ₋²) / 2)``; AUC ``P(s₊ > s₋) +
    P(s₊ = s₋) / 2`` over all pairs of a positive and a negative, scores in one fine bin taken for equal.

    Args:
        positive, negative: fine counts, then how many, sum and sum of squares, as `Histogram` adds them up.
        shown: how many bins are shown.
    """
    fine = [each[:-3] for each in (positive, negative)]
    if not all(each.any() for each in fine):
        return {}
    p, n = (each / each.sum() for each in fine)
    below = n.cumsum() - n
    moments = [_moments(each[-3:]) for each in (positive, negative)]
    (mean, variance), (other, spread) = moments
    scale = math.sqrt((variance + spread) / 2)
    return {
        "overlap": float(np.minimum(p.reshape(shown, -1).sum(axis=1), n.reshape(shown, -1).sum(axis=1)).sum()),
        "d_prime": (mean - other) / scale if scale else float("nan"),
        "auc": float((p * (below + n / 2)).sum()),
    }


def _moments(sums: Array) -> tuple[float, float]:
    count, total, squares = sums.tolist()
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0)
