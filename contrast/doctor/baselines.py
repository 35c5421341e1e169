"""Whether an encoder beats its baselines: the majority class, raw input and random weights, by its evaluations."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from contrast.doctor.evidence import Evidence
from contrast.doctor.finding import Finding

__all__ = ["Reference", "below_baseline", "best_reference", "references"]

RULES = {
    "raw_input": "below-raw-input",
    "random_weights": "below-random-weights",
    "majority_class": "below-majority-class",
}
"""Names of the findings; the most telling first."""
ADVICE = {
    "raw_input": "Train longer, or change the views: the encoder leaves out what the test set asks about. Differences "
    "between losses cannot show in such a run.",
    "random_weights": "Look at the other findings, the learning rate and the views: training made the features worse.",
    "majority_class": "Check the labels and classes of both sets, and look at the balanced accuracy.",
}
WORSE, HALF = 0.02, 0.5
"""How far the online kNN must be below raw input's, and which share of the run must be done."""
NAMES = {"knn": "kNN", "probe": "The linear probe", "finetune": "Fine-tuning"}


@dataclass(frozen=True)
class Reference:
    """One baseline of an evaluation, as its file has it.

    Args:
        name: its key, say "raw_input".
        words: what it is called, say "raw pixels".
        top1: its accuracy, a share.
        difference: the encoder's accuracy minus this, on the same labels and samples.
        interval: 95 % interval of the difference; None where the file has none.
        protocol: how it was measured.
    """

    name: str
    words: str
    top1: float
    difference: float
    interval: tuple[float, float] | None
    protocol: dict[str, Any]

    @property
    def beaten(self) -> bool:
        """Whether the encoder is below it; of the majority class, not above it."""
        return self.difference < 0 or (self.name == "majority_class" and self.difference == 0)

    @property
    def surely(self) -> bool:
        """Whether the whole interval of the difference is below zero."""
        return self.interval is not None and self.interval[1] < 0

    @property
    def points(self) -> str:
        """The difference in points with its sign, and the interval where there is one."""
        said = _points(self.difference)
        return said if self.interval is None else f"{said} [{_points(self.interval[0])}, {_points(self.interval[1])}]"


def references(evaluation: Mapping[str, Any]) -> list[Reference]:
    """The baselines of an evaluation's JSON; empty where none was measured, as in files of earlier versions."""
    found = evaluation.get("baselines")
    read = [] if not isinstance(found, dict) else [_reference(str(name), content) for name, content in found.items()]
    return [reference for reference in read if reference is not None]


def best_reference(found: list[Reference]) -> Reference | None:
    """The baseline that the encoder is the least above."""
    return min(found, key=lambda reference: reference.difference, default=None)


def below_baseline(run: Evidence) -> Finding | None:
    """The newest evaluation of a command, else the kNN during training, is below one of its baselines."""
    for name, rule in RULES.items():
        found = [
            (command, evaluation, reference)
            for command, evaluation in run.newest_evaluations().items()
            for reference in references(evaluation)
            if reference.name == name and reference.beaten
        ]
        if found:  # the surest, then the largest
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
        f"{NAMES.get(command, command)} is at {own}, and {reference.words} at {100 * reference.top1:.1f} %: "
        f"{reference.points} points{zero}{beside}.",
        ADVICE[reference.name],
    )


def _below_while_training(run: Evidence) -> Finding | None:
    ours, raw = run.scalars("online/knn_top1")[-1:], run.scalars("online/raw_input_knn_top1")[:1]
    if not ours or not raw or run.progress < HALF or ours[0] > raw[0] - WORSE:
        return None
    return Finding(
        RULES["raw_input"],
        "warning",
        f"kNN while training is at {100 * ours[0]:.1f} %, and that of the raw input is {100 * raw[0]:.1f} %.",
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
