"""Evaluation baselines: majority class, raw input and random weights, measured by the encoder's own protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from contrast.checks import checked
from contrast.data import TrainingData
from contrast.errors import InputError
from contrast.evaluation.encoder import MOST_VALUES, Encoder, raw_input
from contrast.evaluation.protocols import evaluate_knn, evaluate_probe, positions_of
from contrast.evaluation.results import Baseline, Result, accuracy_interval
from contrast.evaluation.statistics import (
    Interval,
    balanced_accuracy,
    matched_difference,
    mean_interval,
    paired_difference,
)

__all__ = ["MAJORITY", "RANDOM", "RAW", "measure_baselines", "most_samples", "with_notes"]

MAJORITY, RAW, RANDOM = "majority_class", "raw_input", "random_weights"

_SEARCHED, _FITTED = 20_000 * MOST_VALUES, 5_000 * MOST_VALUES
_FEWEST = 5_000
_OVER_SEEDS = "95 %, Student's t over the differences of {} seeds"
_OVER_ITEMS = "95 %, Agresti and Min's for matched proportions over {:,} test samples, of one seed"


@checked
def most_samples(width: int, fitted: bool) -> int:
    """Largest number of samples on which a baseline is measured.

    It is 61,440,000 / width, or 15,360,000 / width to fit a probe, and at least 5,000. For a colour image of 32 x 32
    pixels or more it is 20,000 for kNN and 5,000 for a probe.

    Args:
        width: values per sample; the larger of the raw input's width and the encoder's.
        fitted: whether a probe is fitted on the samples.
    """
    return max(_FEWEST, (_FITTED if fitted else _SEARCHED) // width)


@checked
def measure_baselines(
    result: Result,
    encoder: Encoder,
    untrained: Encoder | None,
    data: TrainingData,
    cache: Path,
    device: torch.device,
    tell: Callable[[Baseline], None] | None = None,
) -> Result:
    """Add baselines to a result; each uses the same labels and the same test samples as the encoder.

    - Majority class: the most frequent class of the whole train set.
    - Raw input: the standardised sample, averaged by area to at most 3,072 values.
    - Random weights: the encoder's architecture before training.

    Where a set has more than `most_samples` samples, baselines are measured on a subset with the same share of every
    class. The encoder is measured again on this subset, to compute the difference. With all labels, only one seed is
    measured, because seeds agree in that case.

    For fine-tuning, the raw-input baseline is a linear probe. Random weights are not measured, because training them
    from scratch takes as long as the fine-tuning.

    Args:
        result: result of `evaluate_knn`, `evaluate_probe` or `evaluate_finetuning`.
        encoder: the encoder that was evaluated.
        untrained: the same architecture with random weights; None leaves this baseline out.
        data: the data of the evaluation.
        cache: folder of cached features.
        device: device on which everything runs.
        tell: callback that receives each baseline as soon as it is measured.

    Raises:
        InputError: where the evaluation raises it.
    """
    raw = raw_input(encoder)
    width = max(encoder.width, raw.width)
    searched, fitted = (most_samples(width, each) for each in (False, True))
    # A probe on few labels is fitted on these labels only, so the size of the whole train set does not matter.
    many = result.command != "knn" and result.protocol["train_samples"] > fitted
    most = (fitted if many else searched, searched)
    only = positions_of(data, "test", searched)
    part = only is not None or data.train_samples > most[0]
    found: list[Baseline] = []

    def keep(name: str, words: str, measured: Result, ours: Result) -> None:
        found.append(Baseline(name, words, measured, *_difference(ours, measured)))
        if tell is not None:
            tell(found[-1])

    keep(MAJORITY, "majority class", _majority(result, data), result)
    ours = result
    if part and result.command != "finetune":
        ours = _again(result, encoder, data, cache, device, most)
    elif only is not None:
        ours = replace(result, right=[right[only] for right in result.right])
    bound = f"at most {most[0]:,} train samples and {most[1]:,} test samples, the same share of every class"
    measured = [(RAW, f"raw {data.value_name}s", raw)]
    if untrained is not None and result.command != "finetune":
        measured.append((RANDOM, "random weights", untrained))
    for name, words, baseline in measured:
        evaluated = _again(result, baseline, data, cache, device, most)
        protocol = {**evaluated.protocol, "values": baseline.width}
        protocol["bound"] = bound if part else f"{bound}: here all samples"
        keep(name, words, replace(evaluated, protocol=protocol), ours)
    return replace(result, baselines=found)


@checked
def with_notes(result: Result, data: TrainingData, also: Sequence[str] = ()) -> Result:
    """Add notes to a result: one sentence for each reason why its accuracy means less than it seems to.

    Args:
        result: result with its baselines, as far as they were measured.
        data: the data of the evaluation.
        also: further notes.
    """
    labels, top1 = _test_labels(data), result.interval.mean
    sizes = torch.bincount(labels)
    largest = int(sizes.argmax())
    share = float(sizes[largest]) / len(labels)
    notes = list(also)
    if int((sizes > 0).sum()) == 1:
        notes.append(f"the test set has one class only ({largest}): any constant answer has 100 %")
    elif share >= top1:
        notes.append(
            f"top-1 {100 * top1:.2f} % is not above always answering class {largest}, the test set's largest: "
            f"{100 * share:.2f} %"
        )
    described = result.protocol["data"]
    if _same_contents(described["train"], described["test"]):
        notes.append(
            "the test set has the same contents as the train set: the accuracy says nothing about other samples"
        )
    for baseline in result.baselines or ():
        if baseline.name != MAJORITY and baseline.difference.mean < 0:
            low, middle, high = (100 * end for end in _ends(baseline.difference))
            zero = "; the interval contains zero" if high >= 0 else ""
            notes.append(f"below {baseline.words}: {middle:+.2f} points [{low:+.2f}, {high:+.2f}]{zero}")
    return replace(result, notes=notes)


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.low, interval.mean, interval.high


def _same_contents(train: Mapping[str, Any], test: Mapping[str, Any]) -> bool:
    """Whether train and test set have the same contents, by the data module's description of samples and labels."""
    return bool(train["samples"] == test["samples"] and train["contents"] == test["contents"])


def _test_labels(data: TrainingData) -> Int[Tensor, " n"]:
    if data.test_labels is None:
        raise InputError("the test set has no labels: give a labelled data.test to evaluate on")
    return data.test_labels


def _again(
    result: Result, encoder: Encoder, data: TrainingData, cache: Path, device: torch.device, most: tuple[int, int]
) -> Result:
    """Evaluate another encoder by the result's own protocol; for fine-tuning, by a linear probe."""
    asked = result.protocol
    if result.command == "knn":
        return evaluate_knn(encoder, data, cache, device, asked["neighbours"], asked["temperature"], most=most)
    fraction, per_class = asked["fraction"], asked["per_class"]
    seeds: Sequence[int] = asked["seeds"][:1] if fraction == 1 else asked["seeds"]
    return evaluate_probe(encoder, data, cache, device, seeds, fraction=fraction, per_class=per_class, most=most)


def _majority(result: Result, data: TrainingData) -> Result:
    labels, train = _test_labels(data), data.train_labels
    assert train is not None  # the evaluation needed these labels
    answer = int(torch.bincount(train[train >= 0]).argmax())  # argmax takes the first of equal classes
    right = labels == answer
    top1 = float(right.double().mean())
    interval, over = accuracy_interval([top1], len(labels), seeds_differ=False)
    kept = {name: result.protocol[name] for name in ("data", "test_samples", "transform", "metric")}
    return Result(
        command=result.command,
        label=result.label,
        fingerprint="",
        encoder={"architecture": "majority class"},
        per_seed=[{"seed": None, "top1": top1, "balanced_accuracy": balanced_accuracy(right, labels)}],
        chosen=[],
        interval=interval,
        protocol={
            **kept,
            "train_samples": len(train),
            "features": "none",
            "classifier": f"class {answer} for every sample: the most frequent one of the whole train set",
            "selection": "none: among equally frequent classes the lowest number",
            "seeds": [],
            "interval": over,
        },
        made_with=result.made_with,
        right=[right],
    )


def _difference(ours: Result, theirs: Result) -> tuple[float, Interval, str]:
    """The encoder's accuracy, its difference to the baseline with an interval, and a description of the interval.

    Pairs are seeds where seeds differ, else test samples.
    """
    mine, others = ([float(right.double().mean()) for right in each.right] for each in (ours, theirs))
    seeds_differ = ours.command == "finetune" or ours.protocol.get("fraction", 1) != 1
    if seeds_differ and len(mine) > 1:
        over = _OVER_SEEDS.format(len(mine))
        paired = len(others) == len(mine)
        found = paired_difference(mine, others) if paired else mean_interval([value - others[0] for value in mine])
        return fmean(mine), Interval(found.mean, max(-1.0, found.low), min(1.0, found.high)), over
    first, second = ours.right[0].tolist(), theirs.right[0].tolist()
    return mine[0], matched_difference(first, second), _OVER_ITEMS.format(len(first))
