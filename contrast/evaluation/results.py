"""Evaluation results as JSON files that state the full protocol."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from contrast.checks import checked
from contrast.evaluation.statistics import Interval, mean_interval, wilson_interval
from contrast.runs.files import whole_file

__all__ = ["Baseline", "Result", "accuracy_interval", "write_json", "write_result"]

_OVER_SEEDS = "95 %, Student's t over {} seeds: how far other seeds would move the mean on this test set"
_OVER_ITEMS = "95 %, Wilson's over {} test samples at the mean accuracy, since {}"


@dataclass(frozen=True)
class Result:
    """Result of one evaluation, with its protocol.

    Attributes:
        command: command that made the result: "probe", "finetune" or "knn".
        label: short name that distinguishes the result from others of the command, for example "fraction-0.1"; part of
            the file name.
        fingerprint: fingerprint of the encoder's weights.
        encoder: description of the encoder: run, checkpoint, epoch, architecture.
        per_seed: one mapping per seed, with its top1 and its balanced accuracy.
        chosen: one mapping per seed, with the hyperparameter chosen on the held-out part of the train set.
        interval: mean and 95 % interval of the top-1 accuracy.
        protocol: everything that the numbers depend on besides the encoder.
        made_with: device and library versions; the last digits may depend on them.
        auroc: mean and 95 % interval of the macro AUROC; None where it was not measured or no class has an AUROC.
        right: whether each test sample is classified correctly, one tensor per seed; not written to the file.
        baselines: baselines that the accuracy must beat; None where none was measured.
        notes: one sentence for each reason why the accuracy means less than it seems to.
    """

    command: str
    label: str
    fingerprint: str
    encoder: Mapping[str, Any]
    per_seed: Sequence[Mapping[str, Any]]
    chosen: Sequence[Mapping[str, Any]]
    interval: Interval
    protocol: Mapping[str, Any]
    made_with: Mapping[str, Any]
    auroc: Interval | None = None
    right: Sequence[Tensor] = field(default=(), compare=False, repr=False)
    baselines: Sequence[Baseline] | None = None
    notes: Sequence[str] = ()

    @property
    def balanced(self) -> float | None:
        """Mean balanced accuracy over seeds; None where it was not measured."""
        found = [seed["balanced_accuracy"] for seed in self.per_seed if seed.get("balanced_accuracy") is not None]
        return fmean(found) if found else None

    @property
    def file_name(self) -> str:
        """File name: command, label, and a hash of weights and protocol.

        Only a repeated evaluation has the same name.
        """
        key = json.dumps([self.command, self.fingerprint, self.protocol], sort_keys=True)
        return f"{self.command}-{self.label}-{hashlib.sha256(key.encode()).hexdigest()[:10]}.json"


@dataclass(frozen=True)
class Baseline:
    """Baseline that an accuracy must beat, measured on the same data by the same protocol.

    Attributes:
        name: "majority_class", "raw_input" or "random_weights".
        words: name in tables, for example "raw pixels".
        result: the baseline's own result, with its own protocol.
        compared: the encoder's mean top-1 accuracy on the labels and test samples of the baseline.
        difference: the encoder's top-1 accuracy minus the baseline's, paired, with its 95 % interval.
        over: description of the interval of the difference: over seeds or over test samples.
    """

    name: str
    words: str
    result: Result
    compared: float
    difference: Interval
    over: str


@checked
def accuracy_interval(accuracies: Sequence[float], items: int, seeds_differ: bool) -> tuple[Interval, str]:
    """Mean accuracy over seeds with a 95 % confidence interval within [0, 1], and a description of the interval.

    Args:
        accuracies: one per seed.
        items: number of test samples.
        seeds_differ: whether another seed is another experiment (other labels, or another training). If not, the spread
            over seeds would be almost zero and would suggest a certainty that `items` test samples do not give; the
            interval is then Wilson's, over test samples.
    """
    mean = fmean(accuracies)
    if seeds_differ and len(accuracies) > 1:
        over_seeds = mean_interval(accuracies)
        within = Interval(mean, max(0.0, over_seeds.low), min(1.0, over_seeds.high))
        return within, _OVER_SEEDS.format(len(accuracies))
    reason = "one seed was run" if seeds_differ else "all labels are seen and seeds differ in their choices at most"
    return wilson_interval(mean, items), _OVER_ITEMS.format(items, reason)


@checked
def write_result(folder: str | Path, result: Result) -> Path:
    """Write a result as JSON into the folder; it can only replace an earlier result of the same weights and protocol.

    Args:
        folder: output folder; created if missing.
        result: result to write.

    Returns:
        Path of the file.
    """
    content = {
        "command": result.command,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **result.encoder,
        "fingerprint": result.fingerprint,
        **_numbers(result),
        **(
            {} if result.baselines is None else {"baselines": {each.name: _baseline(each) for each in result.baselines}}
        ),
        "notes": list(result.notes),
        "protocol": dict(result.protocol),
        "made_with": dict(result.made_with),
    }
    return write_json(Path(folder) / result.file_name, content)


def _numbers(result: Result) -> dict[str, Any]:
    auroc, balanced = result.auroc, result.balanced
    return {
        "top1": result.interval.mean,
        "top1_interval": [result.interval.low, result.interval.high],
        **({} if balanced is None else {"balanced_accuracy": balanced}),
        **({} if auroc is None else {"macro_auroc": auroc.mean, "macro_auroc_interval": [auroc.low, auroc.high]}),
        "per_seed": list(result.per_seed),
        "chosen": list(result.chosen),
    }


def _baselines(result: Result) -> dict[str, Any]:
    """The result's "baselines" entry, if baselines were measured.

    An empty entry would mean that there is nothing to beat.
    """
    if result.baselines is None:
        return {}
    return {"baselines": {each.name: _baseline(each) for each in result.baselines}}


def _baseline(baseline: Baseline) -> dict[str, Any]:
    difference = baseline.difference
    return {
        "name": baseline.words,
        **baseline.result.encoder,
        "fingerprint": baseline.result.fingerprint,
        **_numbers(baseline.result),
        "encoder_top1": baseline.compared,
        "difference": difference.mean,
        "difference_interval": [difference.low, difference.high],
        "difference_over": baseline.over,
        "protocol": dict(baseline.result.protocol),
    }


@checked
def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON file atomically; its folder is created if missing."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    path = Path(path)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
