"""The numbers of summary.json in words: what the demo measured of the run and of its baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from contrast.report.numbers import duration, is_number, number, percent, points, short

__all__ = ["gain_in_words", "summary_in_words"]

STATES = {"": "Pretrained", "random_init_": "Random weights"}
RAW = "raw_"
GAIN = "few_label_gain_over_"
MEASURED = {
    "linear_top1": "linear probe, top-1",
    "few_label_top1": "probe on few labels, top-1",
    "knn_top1": "kNN, top-1",
    "linear_macro_auroc": "linear probe, macro AUROC",
    "few_label_macro_auroc": "probe on few labels, macro AUROC",
    "knn_macro_auroc": "kNN, macro AUROC",
}
NAMES = {
    "few_labels_per_class": "Few labels",
    "neighbours": "Neighbours of kNN",
    "pretrain_seconds": "Pretraining took",
}
UNSAID = {"samples_name", "value_name", "few_label_gain_low"}
"""Words for the other names, and the lowest end of the gains, each of which is said with its interval."""


def summary_in_words(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values in the order of the file; a key that nobody knows is shown as it stands."""
    return [(_name(key, summary), _value(key, value)) for key, value in summary.items() if key not in UNSAID]


def gain_in_words(gain: Sequence[float]) -> str:
    """The mean and the ends of an interval of a difference of accuracies, as a gain, a loss or neither.

    Args:
        gain: mean, low and high end, as shares.

    Example:
        >>> gain_in_words([0.05, 0.02, 0.08]), gain_in_words([-0.1, -0.2, -0.01])
        ('gain of 5.0 points, 2.0 to 8.0', 'loss of 10.0 points, 1.0 to 20.0')
        >>> gain_in_words([0.01, -0.02, 0.04])
        'no clear difference: +1.0 points, −2.0 to +4.0'
    """
    mean, low, high = gain
    if low >= 0:
        return f"gain of {100 * mean:.1f} points, {100 * low:.1f} to {100 * high:.1f}"
    if high <= 0:
        return f"loss of {-100 * mean:.1f} points, {-100 * high:.1f} to {-100 * low:.1f}"
    return f"no clear difference: {points(mean)} points, {points(low)} to {points(high)}"


def _name(key: str, summary: dict[str, Any]) -> str:
    if key in NAMES:
        return NAMES[key]
    if key.startswith(GAIN):
        return f"Few labels, against {_state(key.removeprefix(GAIN) + '_').lower()}"
    if key == f"test_{summary.get('samples_name')}":
        return f"Test {summary['samples_name']}"
    for measured, words in MEASURED.items():
        state = _state(key.removesuffix(measured))
        if key.endswith(measured) and state:
            return f"{state}: {words}"
    return key


def _state(prefix: str) -> str:
    """Whose features a key's beginning names; empty where it names none."""
    if prefix.startswith(RAW):
        return f"Raw {prefix.removeprefix(RAW).rstrip('_').replace('_', ' ')}s"
    return STATES.get(prefix, "")


def _value(key: str, value: Any) -> str:
    if key.startswith(GAIN) and isinstance(value, list) and len(value) == 3 and all(map(is_number, value)):
        return f"{gain_in_words(value)} (95 % interval of the paired difference)"
    found = number(value)
    if found is None:
        return value if isinstance(value, str) else json.dumps(value)
    if key.endswith("_top1"):
        return percent(found)
    if key == "few_labels_per_class":
        return f"{short(found)} a class"
    return duration(found) if key == "pretrain_seconds" else short(found)
