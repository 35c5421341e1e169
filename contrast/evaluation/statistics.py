"""Statistics of evaluations: confidence intervals, paired differences, AUROC and balanced accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError

__all__ = [
    "AUROC",
    "Interval",
    "auroc_interval",
    "balanced_accuracy",
    "macro_auroc",
    "matched_difference",
    "mean_interval",
    "paired_difference",
    "wilson_interval",
]


@dataclass(frozen=True)
class Interval:
    """Confidence interval with its estimate.

    Attributes:
        mean: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    mean: float
    low: float
    high: float


@checked
def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean over seeds with Student's t confidence interval: mean ± t_{n−1} · s / √n.

    The interval says how far other seeds would move the mean on the same test set. It says nothing about another test
    set.

    Args:
        values: one per seed.
        confidence: confidence level of the interval.

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
    from scipy.special import stdtrit  # imported late: takes half a second

    centre = fmean(values)
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * stdev(values) / math.sqrt(len(values))
    return Interval(centre, centre - half, centre + half)


@checked
def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval:
    """Paired difference over seeds: mean of first − second with Student's t confidence interval.

    Args:
        first: one value per seed.
        second: one value per seed, in the same order.
        confidence: confidence level of the interval.

    Raises:
        InputError: where the two differ in length, or have fewer than two values.
    """
    if len(first) != len(second):
        raise InputError(f"{len(first)} and {len(second)} values cannot be paired: evaluate both with the same seeds")
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence)


@checked
def matched_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Accuracy difference of two classifiers on the same test items, with a confidence interval over items.

    Of n items, b are classified correctly only by the first classifier and c only by the second. The estimate is
    (b − c) / n. The interval is d ± z · √(b + c + 1 − (b − c)² / (n + 2)) / (n + 2) with d = (b − c) / (n + 2).

    Args:
        first: whether the first classifier is correct on each item.
        second: whether the second classifier is correct on each item, in the same order.
        confidence: confidence level of the interval.

    Raises:
        InputError: where the two differ in length, or are empty.

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
    """Wilson score interval of an accuracy on n test items.

    With p the accuracy and z the normal quantile: (p + z²/2n ± z · √(p(1 − p)/n + z²/4n²)) / (1 + z²/n).

    Args:
        accuracy: p, from 0 to 1.
        items: n, at least 1.
        confidence: confidence level of the interval.

    Raises:
        InputError: where there is no item, or the accuracy is not from 0 to 1.

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


_OVER_SEEDS = "95 %, Student's t over {} seeds: how far other seeds would move the mean on this test set"
_OVER_ITEMS = "95 %, normal with DeLong's standard error over the test samples; of no width at 1"


@checked
def balanced_accuracy(right: Bool[Tensor, " n"], labels: Int[Tensor, " n"]) -> float:
    """Balanced accuracy: mean over classes of the share of the class's samples that are classified correctly.

    Args:
        right: whether each sample is classified correctly, (n,).
        labels: true classes, (n,); a class without a sample does not count.

    Example:
        >>> balanced_accuracy(torch.tensor([True, True, True, False]), torch.tensor([0, 0, 0, 1]))
        0.5
    """
    _, own, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    hits = torch.zeros(len(sizes), dtype=torch.float64, device=labels.device).index_add_(0, own, right.double())
    return float((hits / sizes).mean())


@dataclass(frozen=True)
class AUROC:
    """Macro AUROC of one classifier on a test set.

    Attributes:
        value: mean over classes.
        error: standard error of the mean over test samples.
    """

    value: float
    error: float


@checked
def macro_auroc(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]) -> AUROC | None:
    """Macro AUROC: mean over classes of the area under the ROC curve of one class against the rest.

    The result includes a standard error.

    ``A_c = P(p_c(x) > p_c(y)) + P(p_c(x) = p_c(y)) / 2``, where x is a sample of class c, y a sample of another class,
    and p the softmax of the logits. A class has no area where the test set has no sample of it, or only samples of it;
    the mean leaves such classes out.

    The standard error of the mean of A_c comes from DeLong's components. Sample i of class c adds
    ``(share of others below it − A_c) / n_c`` to class c's term. A sample of another class adds
    ``(share of class c above it − A_c) / (n − n_c)``. The error is the square root of the sum of squares over samples.

    Args:
        logits: one per class, (n, classes).
        labels: true classes, (n,).

    Returns:
        Value and standard error; None where no class has an area.

    Raises:
        InputError: where a logit is not finite or a label is not a class.

    Source: Hand and Till, A Simple Generalisation of the Area Under the ROC Curve (Machine Learning 2001), for one
    class against the rest; DeLong, DeLong and Clarke-Pearson, Comparing the Areas under Two or More Correlated ROC
    Curves (Biometrics 1988), without their n / (n − 1).

    Example:
        >>> macro_auroc(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 1, 1])).value
        1.0
    """
    if not bool(logits.isfinite().all()):
        raise InputError("macro_auroc: the logits hold NaN or infinity: check the classifier")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        low, high = int(labels.min()), int(labels.max())
        raise InputError(f"macro_auroc: labels from {low} to {high} are not among {logits.shape[1]} classes")
    shares = logits.double().cpu().softmax(dim=1)
    labels = labels.cpu()
    areas, components = [], torch.zeros(len(labels)).double()
    for number in range(shares.shape[1]):
        of_class = labels == number
        if bool(of_class.any()) and not bool(of_class.all()):
            inside, outside = _placements(shares[of_class, number], shares[~of_class, number])
            area = float(inside.mean())
            areas.append(area)
            components[of_class] += (inside - area) / len(inside)
            components[~of_class] += (outside - area) / len(outside)
    if not areas:
        return None
    return AUROC(fmean(areas), float(components.square().sum().sqrt()) / len(areas))


@checked
def auroc_interval(found: Sequence[AUROC], seeds_differ: bool) -> tuple[Interval, str]:
    """Mean macro AUROC over seeds with a 95 % confidence interval within [0, 1], and a description of the interval.

    Args:
        found: one per seed.
        seeds_differ: whether another seed is another experiment; see `accuracy_interval`.
    """
    values = [each.value for each in found]
    if seeds_differ and len(values) > 1:
        interval, over = mean_interval(values), _OVER_SEEDS.format(len(values))
    else:
        half = NormalDist().inv_cdf(0.975) * fmean(each.error for each in found)
        mean = fmean(values)
        interval, over = Interval(mean, mean - half, mean + half), _OVER_ITEMS
    return Interval(interval.mean, max(0.0, interval.low), min(1.0, interval.high)), over


def _placements(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """For each of `inside`, the share of `outside` below it; for each of `outside`, the share of `inside` above it.

    A tie counts as half.
    """
    return _share_below(inside, outside), 1 - _share_below(outside, inside)


def _share_below(values: Tensor, others: Tensor) -> Tensor:
    ranked = others.sort().values
    below, not_above = (torch.searchsorted(ranked, values, right=right).double() for right in (False, True))
    return (below + not_above) / 2 / len(others)
