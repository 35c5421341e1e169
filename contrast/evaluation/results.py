"""What an evaluation found, as a JSON file that states its whole protocol."""

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
    """One evaluation.

    Args:
        command: which command made it, "probe", "finetune" or "knn".
        label: what tells it from the command's other results at sight, say "fraction-0.1"; part of the file's name.
        fingerprint: of the encoder's weights.
        encoder: what was evaluated, in words: run, checkpoint, epoch, architecture.
        per_seed: one mapping a seed, with its top1 and its balanced accuracy.
        chosen: what the held-out part of the train set decided, one mapping a seed.
        interval: mean and 95 % interval of top-1.
        auroc: mean and 95 % interval of the macro AUROC; None where it was not taken or no class has an area.
        protocol: all that the numbers depend on besides the encoder.
        made_with: device and versions, by which the last digits may differ.
        right: whether each test sample is classified correctly, one row a seed; not written to the file.
        baselines: what the accuracy must beat; None where none was measured.
        notes: one sentence for each thing that makes the accuracy mean less than it seems to.
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
        """Mean balanced accuracy over seeds; None where it was not taken."""
        found = [seed["balanced_accuracy"] for seed in self.per_seed if seed.get("balanced_accuracy") is not None]
        return fmean(found) if found else None

    @property
    def file_name(self) -> str:
        """Command, label and a key of weights and protocol: only the same evaluation has the same name."""
        key = json.dumps([self.command, self.fingerprint, self.protocol], sort_keys=True)
        return f"{self.command}-{self.label}-{hashlib.sha256(key.encode()).hexdigest()[:10]}.json"


@dataclass(frozen=True)
class Baseline:
    """What an accuracy must beat, measured on the same data and by the same protocol.

    Args:
        name: "majority_class", "raw_input" or "random_weights".
        words: what stands in tables, say "raw pixels".
        result: its own evaluation, with its own protocol.
        compared: the encoder's mean top-1 on the labels and the test samples that the baseline was measured on.
        difference: the encoder's top-1 minus the baseline's, paired, with its 95 % interval.
        over: in words, what the interval of the difference is over.
    """

    name: str
    words: str
    result: Result
    compared: float
    difference: Interval
    over: str


@checked
def accuracy_interval(accuracies: Sequence[float], items: int, seeds_differ: bool) -> tuple[Interval, str]:
    """Mean and 95 % interval of the accuracies of several seeds, within [0, 1], and in words what the interval is over.

    Args:
        accuracies: one a seed.
        items: test samples.
        seeds_differ: whether another seed is another experiment (other labels, another course of training). Where it
            is not, a spread over seeds would be zero or nearly so and claim a certainty that n test samples lack.
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
    """Write the result into the folder; it replaces none but an earlier one of the same weights and protocol."""
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
    """Nothing where none was measured: an empty key would say that there is nothing to beat."""
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
    """Write a JSON file whole or not at all, its folder made if missing."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    path = Path(path)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")
    return path
