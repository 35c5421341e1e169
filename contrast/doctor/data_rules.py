"""Rules of the doctor on the input data, and on evaluations compared with their baselines.

The rules on the input read ``input.json``: statistics of a few hundred raw samples, which a run records at its start.
Older runs do not have this file and therefore get no such findings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from contrast.doctor.evidence import Evidence, Finding

__all__ = ["INPUT_RULES", "Reference", "below_baseline", "best_reference", "input_findings", "references"]

FEW_DISTINCT, SOME = 0.5, 0.95
"""Shares of distinct samples: up to the first the input is a problem; below the second it gets a warning."""
BLANK, SOME_BLANK = 0.5, 0.05
"""Shares of constant samples: from the first the input is a problem; from the second it gets a warning."""
NARROW = 1 / 8
"""Smallest share of the 8-bit range that pixels of a data set use; digits, X-rays and maps use nearly all of it."""
FAR, FLAT, STEEP = 3.0, 0.2, 5.0
"""Bounds for standardised data: the largest absolute mean, and the smallest and largest standard deviation.

MNIST standardised with ImageNet's numbers has −1.4 and 1.4.
"""
SHIFTED, RESCALED = 2.0, 4.0
"""Bounds for the test set compared with the training set.

The first is the largest distance of the means, in standard deviations. The second is the largest ratio of the standard
deviations, in either direction.
"""
THIN = 16
"""Ratio of the longer to the shorter side from which the axes of an image seem to be swapped."""
SMOOTH = 0.5
"""Ratio of roughness across channels to roughness along steps, below which the two axes seem to be swapped."""
COARSE = 1e5
"""Largest ratio of a channel's largest absolute value to its standard deviation inside a sample.

float32 distinguishes 1.7e7 numbers between 1 and 2.
"""
FEWEST = 4  # number of samples below which copies are not reported


def input_findings(statistics: dict[str, Any]) -> tuple[Finding, ...]:
    """Apply the rules on the input data to the content of ``input.json``.

    Args:
        statistics: the content. Parts that are missing or of the wrong type are skipped.

    Returns:
        The findings in order of the rules.
    """
    run = Evidence({}, (), (), {}, {}, {}, input=statistics)
    return tuple(finding for rule in INPUT_RULES if (finding := rule(run)) is not None)


def input_copies(run: Evidence) -> Finding | None:
    """Rule: duplicate samples, that is, fewer distinct samples than samples."""
    name, train = _name(run), _set(run, "train")
    count, distinct = _count(train, "samples"), _count(train, "distinct")
    if count is None or distinct is None or count < FEWEST or distinct >= SOME * count:
        return None
    verb = "is" if distinct == 1 else "are"
    return Finding(
        "input-copies",
        "problem" if distinct <= FEW_DISTINCT * count else "warning",
        f"Of {count:,} training {name} examined, {distinct:,} {verb} distinct: the others are copies.",
        "Check data.train: the data set class may ignore its index, or the folder may hold copies. A copy among the "
        "negatives has the same content as the positive, so no temperature or rate helps.",
    )


def input_constant(run: Evidence) -> Finding | None:
    """Rule: constant samples, that is, blank pictures or flat series."""
    name, train = _name(run), _set(run, "train")
    count, constant = _count(train, "samples"), _count(train, "constant")
    if not count or not constant or constant < SOME_BLANK * count:
        return None
    return Finding(
        "input-constant",
        "problem" if constant >= BLANK * count else "warning",
        f"{constant:,} of {count:,} training {name} examined are constant.",
        "Check these samples and remove them: typical causes are masks, failed reads and padding.",
    )


def input_channel(run: Evidence) -> Finding | None:
    """Rule: a channel that is constant over all samples, while other channels are not."""
    name, train = _name(run), _set(run, "train")
    lowest, highest = _numbers(train, "lowest"), _numbers(train, "highest")
    flat = [place for place, (low, high) in enumerate(zip(lowest, highest, strict=False)) if low == high]
    if not flat or len(flat) == len(lowest):
        return None
    channels = f"Channel {flat[0]}" if len(flat) == 1 else f"Channels {', '.join(map(str, flat[:5]))}"
    more = f" and {len(flat) - 5} more" if len(flat) > 5 else ""
    return Finding(
        "input-channel",
        "warning",
        f"{channels}{more} of {len(lowest)} never change{'s' * (len(flat) == 1)} in the training {name} examined.",
        "Remove such channels, or check how they are read.",
    )


def input_range(run: Evidence) -> Finding | None:
    """Rule: pixels that use a small part of the range of their type."""
    train = _set(run, "train")
    lowest, highest = _numbers(train, "lowest"), _numbers(train, "highest")
    if run.input.get("samples_name") != "images" or not lowest or not highest:
        return None
    low, high = 255 * min(lowest), 255 * max(highest)
    if high - low > 255 * NARROW or high == low:  # equal ends are constant pictures, which another rule reports
        return None
    kind = train.get("type")
    given = f" (given as {kind})" if isinstance(kind, str) else ""
    return Finding(
        "input-range",
        "problem",
        f"All pixels lie between {low:.0f} and {high:.0f} of 0 to 255{given}.",
        "Give uint8 from 0 to 255, uint16 from 0 to 65,535, or floats from 0 to 1: typical causes are floats cast to "
        "uint8, and pixels divided by 255 twice.",
    )


def input_scale(run: Evidence) -> Finding | None:
    """Rule: standardisation with a mean and a standard deviation that do not fit the data."""
    train, scale = _set(run, "train"), run.input.get("standardisation")
    if not isinstance(scale, dict) or input_range(run) or input_copies(run):
        return None
    mean, std = _numbers(train, "mean"), _numbers(train, "std")
    by_mean, by_std = _numbers(scale, "mean"), _numbers(scale, "std")
    if not any(by_mean) and all(unit == 1 for unit in by_std):  # not standardised: pixels in [0, 1], as in SimCLR
        return None
    for own, spread, centre, unit in zip(mean, std, by_mean, by_std, strict=False):
        if unit <= 0 or not spread:
            continue
        shifted, stretched = (own - centre) / unit, spread / unit
        if abs(shifted) > FAR or not FLAT <= stretched <= STEEP:
            return Finding(
                "input-scale",
                "warning",
                f"Standardised by mean {centre:.4g} and std {unit:.4g}, the training {_name(run)} have mean "
                f"{shifted:.2g} and standard deviation {stretched:.2g}; 0 and 1 are expected.",
                "Leave data.mean and data.std out, so that they are measured; for images they refer to pixels from 0 "
                "to 1. Data that are already standardised need mean 0 and std 1.",
            )
    return None


def input_same_test_set(run: Evidence) -> Finding | None:
    """Rule: a test set that equals the training set."""
    if _set(run, "test").get("same_as_train") is not True:
        return None
    return Finding(
        "input-same-test-set",
        "problem",
        "The test set has the same contents as the training set.",
        "Give other samples as data.test: an accuracy on the training samples says nothing about others.",
    )


def input_test_set(run: Evidence) -> Finding | None:
    """Rule: a test set with another mean or scale than the training set."""
    train, test = _set(run, "train"), _set(run, "test")
    parts = (_numbers(part, name) for part in (train, test) for name in ("mean", "std"))
    for channel, (mean, std, test_mean, test_std) in enumerate(zip(*parts, strict=False)):
        if std <= 0:
            continue
        far = abs(test_mean - mean) > SHIFTED * std
        if far or not 1 / RESCALED <= test_std / std <= RESCALED:
            return Finding(
                "input-test-set",
                "problem",
                f"Channel {channel} of the test {_name(run)} has mean {test_mean:.4g} and deviation {test_std:.4g}; "
                f"the training {_name(run)} have {mean:.4g} and {std:.4g}.",
                "Bring both sets to one scale before you evaluate: one of them was divided, cast or standardised "
                "differently.",
            )
    return None


def input_axes(run: Evidence) -> Finding | None:
    """Rule: samples whose axes seem to be swapped."""
    train, name = _set(run, "train"), _name(run)
    shape = train.get("shape")
    if not isinstance(shape, list) or not all(isinstance(each, int) and each > 0 for each in shape):
        return None
    if len(shape) == 3 and name == "images" and max(shape[1:]) >= THIN * min(shape[1:]):
        return Finding(
            "input-axes",
            "warning",
            f"Training images are {shape[2]} pixels wide and {shape[1]} high: their axes may be in another order.",
            "Arrays are (sample, height, width), (sample, height, width, channel) or (sample, channel, height, width).",
        )
    rough = _numbers(train, "roughness")
    if len(shape) == 2 and shape[0] > shape[1] and len(rough) == 2 and 0 < rough[1] < SMOOTH * rough[0]:
        return Finding(
            "input-axes",
            "warning",
            f"Training series have {shape[0]} channels and {shape[1]} steps, and change less from channel to channel "
            f"({rough[1]:.2g} deviations) than from step to step ({rough[0]:.2g}).",
            "Series are (sample, channel, step): transpose them if yours are (sample, step, channel).",
        )
    return None


def input_precision(run: Evidence) -> Finding | None:
    """Rule: values so large, compared with their changes, that float32 loses the changes to rounding."""
    train = _set(run, "train")
    parts = (_numbers(train, name) for name in ("lowest", "highest", "within"))
    for channel, (low, high, within) in enumerate(zip(*parts, strict=False)):
        largest = max(abs(low), abs(high))
        if within > 0 and largest > COARSE * within:
            return Finding(
                "input-precision",
                "warning",
                f"Channel {channel} reaches {largest:.3g} and deviates by {within:.2g} inside a sample, so "
                "float32 rounds part of the signal away.",
                "Subtract each sample's own mean, or give differences from step to step.",
            )
    return None


INPUT_RULES: tuple[Callable[[Evidence], Finding | None], ...] = (
    input_copies,
    input_constant,
    input_channel,
    input_range,
    input_scale,
    input_same_test_set,
    input_test_set,
    input_axes,
    input_precision,
)


def _name(run: Evidence) -> str:
    found = run.input.get("samples_name")
    return found if isinstance(found, str) else "samples"


def _set(run: Evidence, name: str) -> dict[str, Any]:
    found = run.input.get(name)
    return found if isinstance(found, dict) else {}


def _count(part: dict[str, Any], name: str) -> int | None:
    found = part.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _numbers(part: dict[str, Any], name: str) -> list[float]:
    """Numbers of a list whose values are all finite; empty for anything else."""
    found = part.get(name)
    if not isinstance(found, list):
        return []
    fit = all(isinstance(each, int | float) and not isinstance(each, bool) and abs(each) < 1e300 for each in found)
    return [float(each) for each in found] if fit else []


RULES = {
    "raw_input": "below-raw-input",
    "random_weights": "below-random-weights",
    "majority_class": "below-majority-class",
}
"""Rule names by baseline, the most informative baseline first."""
ADVICE = {
    "raw_input": "Train longer, or change the views: the encoder drops information that the test labels need. "
    "Differences between losses cannot show in such a run.",
    "random_weights": "Check the other findings, the learning rate and the views: training made the features worse.",
    "majority_class": "Check the labels and classes of both sets, and read the balanced accuracy.",
}
WORSE, HALF_OF_SAMPLES = 0.02, 0.5
"""Conditions on the online kNN: its distance below the kNN of the raw input, and the share of the run that is done."""
NAMES = {"knn": "kNN", "probe": "The linear probe", "finetune": "Fine-tuning"}


@dataclass(frozen=True)
class Reference:
    """Baseline of an evaluation, read from the evaluation's file.

    Attributes:
        name: key of the baseline, for example "raw_input".
        words: name of the baseline in words, for example "raw pixels".
        top1: top-1 accuracy of the baseline, as a share.
        difference: the encoder's accuracy minus the baseline's, as a share, on the same labels and samples.
        interval: 95 % confidence interval of the difference, as shares. None where the file has none.
        protocol: how the baseline was measured.
    """

    name: str
    words: str
    top1: float
    difference: float
    interval: tuple[float, float] | None
    protocol: dict[str, Any]

    @property
    def beaten(self) -> bool:
        """Whether the baseline beats the encoder; the majority class also beats an encoder of equal accuracy."""
        return self.difference < 0 or (self.name == "majority_class" and self.difference == 0)

    @property
    def surely(self) -> bool:
        """Whether the baseline clearly beats the encoder: the whole interval of the difference is below zero."""
        return self.interval is not None and self.interval[1] < 0

    @property
    def points(self) -> str:
        """Difference in percentage points with its sign, followed by its interval where there is one."""
        points = _points(self.difference)
        return (
            points if self.interval is None else f"{points} [{_points(self.interval[0])}, {_points(self.interval[1])}]"
        )


def references(evaluation: Mapping[str, Any]) -> list[Reference]:
    """Read the baselines of an evaluation.

    Args:
        evaluation: content of the evaluation's JSON file.

    Returns:
        The baselines. Empty where none was measured, for example in files of earlier versions.
    """
    found = evaluation.get("baselines")
    read = [] if not isinstance(found, dict) else [_reference(str(name), content) for name, content in found.items()]
    return [reference for reference in read if reference is not None]


def best_reference(found: list[Reference]) -> Reference | None:
    """Best baseline: the one with the smallest difference to the encoder; None for an empty list."""
    return min(found, key=lambda reference: reference.difference, default=None)


def below_baseline(run: Evidence) -> Finding | None:
    """Rule: accuracy below a baseline, for the newest evaluation of each command, else for the online kNN."""
    for name, rule in RULES.items():
        found = [
            (command, evaluation, reference)
            for command, evaluation in run.newest_evaluations().items()
            for reference in references(evaluation)
            if reference.name == name and reference.beaten
        ]
        if found:  # differences whose interval excludes zero first, then the largest difference
            worst = min(found, key=lambda each: (not each[2].surely, each[2].difference))
            return _finding(rule, *worst)
    return _below_while_training(run)


def _finding(rule: str, command: str, evaluation: Mapping[str, Any], reference: Reference) -> Finding:
    top1 = evaluation.get("top1")
    own = f"{100 * top1:.1f} %" if _is_number(top1) else "no number"
    others = [each for each in references(evaluation) if each.beaten and each.name != reference.name]
    beside = "".join(f"; {each.words}: {100 * each.top1:.1f} %, {each.points} points" for each in others)
    zero = "" if reference.surely or reference.interval is None else "; the interval contains zero"
    return Finding(
        rule,
        "problem" if reference.surely else "warning",
        f"{NAMES.get(command, command)} is at {own}, and {reference.words} at "
        f"{100 * reference.top1:.1f} %: {reference.points} points{zero}{beside}.",
        ADVICE[reference.name],
    )


def _below_while_training(run: Evidence) -> Finding | None:
    ours, raw = run.scalars("online/knn_top1")[-1:], run.scalars("online/raw_input_knn_top1")[:1]
    if not ours or not raw or run.progress < HALF_OF_SAMPLES or ours[0] > raw[0] - WORSE:
        return None
    return Finding(
        RULES["raw_input"],
        "warning",
        f"The online kNN accuracy is {100 * ours[0]:.1f} %; with raw input it is {100 * raw[0]:.1f} %.",
        ADVICE["raw_input"],
    )


def _reference(name: str, content: Any) -> Reference | None:
    if not isinstance(content, dict):
        return None
    top1, difference, ends = (content.get(key) for key in ("top1", "difference", "difference_interval"))
    if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_number, ends)):
        ends = None
    if not _is_number(top1) or not _is_number(difference):
        return None
    protocol, words = content.get("protocol"), str(content.get("name") or name.replace("_", " "))
    interval = None if ends is None else (float(ends[0]), float(ends[1]))
    kept = protocol if isinstance(protocol, dict) else {}
    return Reference(name, words, float(top1), float(difference), interval, kept)


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
