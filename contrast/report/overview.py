"""Overview at the top of the report: key numbers, evaluations with baselines, settings and findings of each run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from contrast.doctor import Finding, best_reference
from contrast.report.figures.scores import mean_gap, sensitivity_index
from contrast.report.figures.training import accuracy_by_epoch, online_references
from contrast.report.numbers import (
    duration,
    is_number,
    number,
    percent,
    points,
    running_mean,
    series_of,
    short,
    smoothing_window,
)
from contrast.report.run_record import Evaluation, RunRecord
from contrast.report.settings import facts_over_time, flat_settings, run_facts
from contrast.run_folder import RunFolder
from contrast.runs.history import Change
from contrast.runs.next_command import shell_command

__all__ = [
    "Card",
    "Overview",
    "against",
    "compared_numbers",
    "data_in_words",
    "gain_in_words",
    "key_numbers",
    "overview",
    "set_in_words",
    "short_protocol",
    "summary_in_words",
]

_MOST_CLASSES = 8


def data_in_words(protocol: dict[str, Any]) -> list[str]:
    """Describe the data sets of an evaluation protocol: path, class, number of samples, class names and checksum.

    Args:
        protocol: the protocol of an evaluation.

    Returns:
        One line per data set. Empty for a protocol without data, as earlier versions wrote it.

    Example:
        >>> data_in_words({"data": {"test": {"set": "x.ImageFolder", "path": "p", "samples": 3, "contents": "1a2b"}}})
        ['test: p (ImageFolder), 3 samples, checksum 1a2b']
    """
    data = protocol.get("data")
    sets = data.items() if isinstance(data, dict) else []
    return [set_in_words(name, each) for name, each in sets if isinstance(each, dict)]


def set_in_words(name: str, described: dict[str, Any]) -> str:
    """Describe one data set in one line.

    Args:
        name: name of the set, for example "test".
        described: the description that `TrainingData.describe` returns. Missing parts are left out.
    """
    kind, path = str(described.get("set") or "").rpartition(".")[2], described.get("path")
    where = f"{path} ({kind})" if path and kind else str(path or kind)
    classes = [str(each) for each in described["classes"]] if isinstance(described.get("classes"), list) else []
    shown = f" of {len(classes)} classes ({_some(classes)})" if classes else ""
    count, checksum = described.get("samples"), described.get("contents")
    said = [
        where,
        f"{count:,} samples{shown}" if isinstance(count, int) else "",
        f"checksum {checksum[:8]}" if isinstance(checksum, str) else "",
    ]
    return f"{name}: {', '.join(filter(None, said))}"


def short_protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    """Shorten an evaluation protocol for a table of settings: each list of class names becomes one text."""
    data = protocol.get("data")
    if not isinstance(data, dict):
        return protocol
    return {**protocol, "data": {name: _with_classes_as_text(each) for name, each in data.items()}}


def _with_classes_as_text(described: Any) -> Any:
    if not isinstance(described, dict) or not isinstance(described.get("classes"), list):
        return described
    return {**described, "classes": _some([str(each) for each in described["classes"]])}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    return ", ".join(names[:_MOST_CLASSES]) + more


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
"""Keys that get no line of their own: words for the names of other lines, and the end of an interval that is shown."""


def summary_in_words(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Describe summary.json: pairs of name and value as text, in the order of the file. Unknown keys are kept as is."""
    return [(_name(key, summary), _value(key, value)) for key, value in summary.items() if key not in UNSAID]


def gain_in_words(gain: Sequence[float]) -> str:
    """Describe a difference of accuracies with its interval: as a gain, as a loss, or as no clear difference.

    Args:
        gain: mean, low end and high end of the interval, as shares.

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
    """Which features the prefix of a summary key stands for; empty for an unknown prefix."""
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


TOP_1 = "top\N{NON-BREAKING HYPHEN}1"
EVALUATION_NAMES = {"probe": "Linear probe", "knn": "kNN", "finetune": "Fine-tuning"}


@dataclass(frozen=True)
class Card:
    """Key number of a run.

    Attributes:
        label: name of the number.
        value: the number as text.
        detail: a qualification, for example its interval or baseline.
    """

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Overview:
    """Overview of one run, as the template shows it above the figures.

    Attributes:
        name: name of the run on the page.
        folder: path of the run folder.
        sentence: method, loss, temperature and data in one sentence.
        facts: main settings as text, by label.
        cards: the key numbers.
        accuracies: one row for each evaluation.
        summary: names and values of summary.json.
        findings: findings of the doctor.
        notes: one sentence for each file that is missing or cannot be read.
        history: settings that changed while the run trained.
        again: the command that starts a run with the same settings.
    """

    name: str
    folder: str
    sentence: str
    facts: dict[str, str]
    cards: list[Card]
    accuracies: list[dict[str, Any]]
    summary: list[tuple[str, str]]
    findings: tuple[Finding, ...]
    notes: list[str]
    history: list[Change]
    again: str


def overview(run: RunRecord) -> Overview:
    """Build the overview of a run as text."""
    facts = facts_over_time(run_facts(run.config, run.never_active) | _input_facts(run.input), run.history)
    return Overview(
        name=run.name,
        folder=run.folder,
        sentence=_sentence(facts),
        facts=facts,
        cards=key_numbers(run),
        accuracies=[_accuracy(evaluation) for evaluation in run.evaluations],
        summary=summary_in_words(run.summary),
        findings=run.findings,
        notes=run.notes,
        history=run.history,
        again=shell_command("pretrain", "--config", RunFolder(Path(run.folder)).config),
    )


def key_numbers(run: RunRecord) -> list[Card]:
    """Key numbers of a run: accuracies, separation, loss, progress and time. Missing numbers are left out."""
    made: Sequence[Callable[[RunRecord], Card | None]] = (_online_knn, _separation, _loss, _progress, _time)
    cards = [*_evaluated(run), *(make(run) for make in made)]
    return [card for card in cards if card is not None]


def compared_numbers(runs: Sequence[Overview]) -> dict[str, list[Card | None]]:
    """Compare the key numbers of several runs: for each label, one card per run, or None where the run has none."""
    labels = dict.fromkeys(card.label for run in runs for card in run.cards)
    by_run = [{card.label: card for card in run.cards} for run in runs]
    return {label: [cards.get(label) for cards in by_run] for label in labels}


def _sentence(facts: dict[str, str]) -> str:
    parts = {"Method": "{}", "Loss": "with {}", "Temperature": "at temperature {}", "Data": "on {}"}
    said = [words.format(facts[label]) for label, words in parts.items() if label in facts]
    return " ".join(said) + "." if "Method" in facts else ""


def _input_facts(statistics: dict[str, Any]) -> dict[str, str]:
    """Statistics of the raw input in one line: samples inspected, distinct samples, range and standardisation."""
    train, scale = (statistics.get(name) for name in ("train", "standardisation"))
    if not isinstance(train, dict) or not isinstance(scale, dict):
        return {}
    name = statistics.get("samples_name")
    counts = [number(train.get(each)) for each in ("samples", "of", "distinct")]
    low, high, mean, std = (
        _numbers(part.get(each))
        for part, each in ((train, "lowest"), (train, "highest"), (scale, "mean"), (scale, "std"))
    )
    if None in counts or not (low and high and mean and std):
        return {}
    examined, of, distinct = (f"{count or 0:,.0f}" for count in counts)
    said = f"{examined} of {of} {name if isinstance(name, str) else 'samples'} examined, {distinct} distinct"
    shown = (", ".join(f"{each:.4g}" for each in part[:4]) + ", …" * (len(part) > 4) for part in (mean, std))
    mean_shown, std_shown = shown
    values = f"values {min(low):.4g} to {max(high):.4g}"
    return {"Input": f"{said}; {values}; standardised by mean {mean_shown} and std {std_shown}"}


def _numbers(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, list) and all(map(is_number, value)) else []


def _evaluated(run: RunRecord) -> list[Card]:
    """One card per evaluation command, with its newest result; the table of evaluations lists all results."""
    cards = []
    for command in sorted({evaluation.command for evaluation in run.evaluations}, reverse=True):
        found = [(each.top1, each) for each in run.evaluations if each.command == command and each.top1 is not None]
        if found:
            top1, newest = max(found, key=lambda each: each[1].created)
            details = [against(newest), _interval(newest), f"newest of {len(found)}" if len(found) > 1 else ""]
            cards.append(Card(f"{_kind(newest)} {TOP_1}", percent(top1), ", ".join(filter(None, details))))
    return cards


def _kind(evaluation: Evaluation) -> str:
    return EVALUATION_NAMES.get(evaluation.command, evaluation.command or "Evaluation")


def against(evaluation: Evaluation) -> str:
    """Describe the difference between an evaluation and its best baseline, in percentage points."""
    best = best_reference(list(evaluation.references))
    if best is None:
        return "no baselines measured"
    return f"{best.points} points against {best.words}, the best baseline ({percent(best.top1)})"


def _interval(evaluation: Evaluation) -> str:
    if evaluation.interval is None:
        return ""
    low, high = (f"{100 * end:.1f}" for end in evaluation.interval)
    return f"interval {low}–{high}\N{NO-BREAK SPACE}%"


def _online_knn(run: RunRecord) -> Card | None:
    rows = [row for row in run.metrics if is_number(row.get("online/knn_top1"))]
    if not rows:
        return None
    done = accuracy_by_epoch(rows[-1:])[0]
    where = f", after epoch {done[0]}" if done else ""
    beside = ", ".join(f"{words} {percent(share)}" for words, share in online_references(run.metrics).items())
    detail = f"while training{where}; {beside or 'no baselines measured'}"
    return Card("Online kNN, last", percent(rows[-1]["online/knn_top1"]), detail)


def _separation(run: RunRecord) -> Card | None:
    found = [(gap, snapshot) for snapshot in run.snapshots if (gap := mean_gap(snapshot)) is not None]
    if not found:
        return None
    gap, snapshot = found[-1]
    index = sensitivity_index(snapshot)
    return Card("Separation d′", "—" if index is None else f"{index:.2f}", f"gap of the means {gap:.2f}")


def _loss(run: RunRecord) -> Card | None:
    values = series_of(run.metrics, "train/loss").y
    if not any(value is not None for value in values):
        return None
    last = running_mean(values, smoothing_window(len(values)))[-1]
    return Card("Training loss, last", "not finite" if last is None else short(last), "smoothed")


def _progress(run: RunRecord) -> Card | None:
    if not run.metrics:
        return None
    trainer = run.config.get("trainer")
    planned = number(trainer.get("max_epochs")) if isinstance(trainer, dict) else None
    epochs = [row["epoch"] for row in run.metrics if is_number(row.get("epoch"))]
    steps = f"{short(run.metrics[-1]['step'])} steps"
    if not epochs:
        return Card("Progress", steps)
    of = f" of {planned:g}" if planned is not None and planned > 0 else ""
    return Card("Epoch reached", f"{epochs[-1] + 1:g}{of}", steps)


def _time(run: RunRecord) -> Card | None:
    """Training time: a resumed run counts from zero again, so its parts are added."""
    seconds = [value for value in series_of(run.metrics, "seconds").y if value is not None]
    if not seconds:
        return None
    spent = seconds[0] + sum(max(0.0, later - sooner) for sooner, later in pairwise(seconds))
    speeds = series_of(run.metrics, "train/samples_per_second")
    known = [(step, value) for step, value in zip(speeds.x, speeds.y, strict=True) if value is not None]
    rates = [value for step, value in known if step != 1 or len(known) == 1]  # the first step includes start-up time
    detail = f"median {short(round(statistics.median(rates)))} samples/s" if rates else ""
    return Card("Training time", duration(spent), detail)


def _accuracy(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "name": evaluation.name,
        "kind": _kind(evaluation),
        "features": _features(evaluation.others),
        "top1": "—" if evaluation.top1 is None else percent(evaluation.top1),
        "interval": _interval(evaluation).removeprefix("interval ") or "—",
        "balanced": "—" if evaluation.balanced is None else percent(evaluation.balanced),
        "baselines": [
            {"words": each.words, "top1": percent(each.top1), "points": each.points, "beaten": each.beaten}
            for each in sorted(evaluation.references, key=lambda each: each.difference)
        ],
        "baseline_protocols": {
            each.words: flat_settings(short_protocol(each.protocol)) for each in evaluation.references
        },
        "remarks": [each for each in evaluation.remarks if not each.startswith("below ")],  # shown as baselines
        "created": evaluation.created or "—",
        "data": data_in_words(evaluation.protocol),
        "protocol": flat_settings(short_protocol(evaluation.protocol)),
        "others": flat_settings(evaluation.others),
    }


def _features(others: dict[str, Any]) -> str:
    """Name of the evaluated features: the epoch of the checkpoint, else the architecture of the encoder."""
    epoch, architecture = others.get("epoch"), others.get("architecture")
    return f"epoch {epoch}" if is_number(epoch) else str(architecture or "—")
