"""95 % intervals of accuracies: over seeds, over paired seeds, over test items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from contrast.arguments import checked
from contrast.errors import InputError

__all__ = ["Interval", "matched_difference", "mean_interval", "paired_difference", "wilson_interval"]


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    mean: float
    low: float
    high: float


@checked
def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean over seeds with Student's interval: mean ± t_{n−1} · s / √n.

    It says how far another draw of seeds would move the mean on the same test set, and nothing of another test set.

    Raises:
        InputError: where there are fewer than two values.

    Example:
        >>> interval = mean_interval([0.90, 0.92])
        >>> round(interval.mean, 2), round(interval.high - interval.low, 3)
        (0.91, 0.254)
    """
    if len(values) < 2:
        raise InputError(
            f"no interval over {len(values)} seed: give at least two, or take Wilson's over the test items"
        )
    from scipy.special import stdtrit  # half a second to import

    centre = fmean(values)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(centre, centre - half, centre + half)


@checked
def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of first − second, seed by seed, with Student's interval of the differences.

    Raises:
        InputError: where the two are not of equal length, or shorter than two.
    """
    if len(first) != len(second):
        raise InputError(f"{len(first)} and {len(second)} values are no pairs: evaluate both with the same seeds")
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence)


@checked
def matched_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Accuracy of a first classifier minus that of a second one on the same test items, with an interval over items.

    With b the items that only the first classifies correctly, c those that only the second does, of n: the estimate is
    (b − c) / n, the interval d ± z · √(b + c + 1 − (b − c)² / (n + 2)) / (n + 2) about d = (b − c) / (n + 2).

    Args:
        first: whether each item is classified correctly by the first.
        second: by the second, in the same order.
        confidence: of the interval.

    Raises:
        InputError: where the two are not of equal length, or empty.

    Source: Agresti and Min, Simple improved confidence intervals for comparing matched proportions (Statistics in
    Medicine 2005): Wald's interval with 0.5 added to each of the four counts.

    Example:
        >>> interval = matched_difference([True] * 60 + [False] * 40, [True] * 50 + [False] * 50)
        >>> round(interval.mean, 2), round(interval.low, 3), round(interval.high, 3)
        (0.1, 0.037, 0.159)
    """
    if len(first) != len(second) or not len(first):
        raise InputError(f"{len(first)} and {len(second)} test items cannot be matched: evaluate both on the same ones")
    only_first = sum(1 for a, b in zip(first, second, strict=True) if a and not b)
    only_second = sum(1 for a, b in zip(first, second, strict=True) if b and not a)
    n, gain, changed = len(first), only_first - only_second, only_first + only_second
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = gain / (n + 2)
    half = z * math.sqrt(changed + 1 - gain * gain / (n + 2)) / (n + 2)
    return Interval(gain / n, max(-1.0, centre - half), min(1.0, centre + half))


@checked
def wilson_interval(accuracy: float, items: int, confidence: float = 0.95) -> Interval:
    """An accuracy on n test items with Wilson's score interval.

    With p the accuracy and z the normal quantile: (p + z²/2n ± z · √(p(1 − p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        InputError: where there is no item or the accuracy is not from 0 to 1.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (JASA 1927).

    Example:
        >>> interval = wilson_interval(1.0, 100)
        >>> round(interval.low, 3), interval.high
        (0.963, 1.0)
    """
    if items < 1 or not 0 <= accuracy <= 1:
        raise InputError(f"no interval of accuracy {accuracy} on {items} items: accuracies are from 0 to 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = accuracy + z * z / (2 * items)
    half = z * math.sqrt(accuracy * (1 - accuracy) / items + z * z / (4 * items * items))
    scale = 1 + z * z / items
    return Interval(accuracy, max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))
