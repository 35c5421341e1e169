"""The top of the page: what a run is, its key numbers, and its accuracies with their protocols."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from contrast.doctor import Finding, best_reference
from contrast.next_command import shell_command
from contrast.report.demo_summary import summary_in_words
from contrast.report.evaluated_data import data_in_words, short_protocol
from contrast.report.figures.knn_accuracy import accuracy_by_epoch, online_references
from contrast.report.figures.score_separation import mean_gap, sensitivity_index
from contrast.report.numbers import duration, is_number, number, percent, short
from contrast.report.run_record import Evaluation, RunRecord
from contrast.report.series import running_mean, series_of, smoothing_window
from contrast.report.settings import facts_over_time, flat_settings, run_facts
from contrast.run_folder import RunFolder
from contrast.run_history import Change

__all__ = ["Card", "Overview", "against", "compared_numbers", "key_numbers", "overview"]

TOP_1 = "top\N{NON-BREAKING HYPHEN}1"
EVALUATION_NAMES = {"probe": "Linear probe", "knn": "kNN", "finetune": "Fine-tuning"}


@dataclass(frozen=True)
class Card:
    """One key number: its name, the number, and what qualifies it."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Overview:
    """What the template shows of one run above the figures.

    Attributes:
        history: settings that changed while it trained.
        again: the command that starts a run of the same settings.
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
    """Everything above the figures, as text."""
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
    """The numbers that a run is told by, as far as its files have them."""
    made: Sequence[Callable[[RunRecord], Card | None]] = (_online_knn, _separation, _loss, _progress, _time)
    cards = [*_evaluated(run), *(make(run) for make in made)]
    return [card for card in cards if card is not None]


def compared_numbers(runs: Sequence[Overview]) -> dict[str, list[Card | None]]:
    """The key numbers of several runs by their labels: one card a run, None where it has no such number."""
    labels = dict.fromkeys(card.label for run in runs for card in run.cards)
    by_run = [{card.label: card for card in run.cards} for run in runs]
    return {label: [cards.get(label) for cards in by_run] for label in labels}


def _sentence(facts: dict[str, str]) -> str:
    parts = {"Method": "{}", "Loss": "with {}", "Temperature": "at temperature {}", "Data": "on {}"}
    said = [words.format(facts[label]) for label, words in parts.items() if label in facts]
    return " ".join(said) + "." if "Method" in facts else ""


def _input_facts(statistics: dict[str, Any]) -> dict[str, str]:
    """What the raw input was: how many samples were looked at, how many differ, their range and standardisation."""
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
    looked, of, distinct = (f"{count or 0:,.0f}" for count in counts)
    said = f"{looked} of {of} {name if isinstance(name, str) else 'samples'} looked at, {distinct} distinct"
    shown = (", ".join(f"{each:.4g}" for each in part[:4]) + ", …" * (len(part) > 4) for part in (mean, std))
    mean_shown, std_shown = shown
    values = f"values {min(low):.4g} to {max(high):.4g}"
    return {"Input": f"{said}; {values}; standardised by mean {mean_shown} and std {std_shown}"}


def _numbers(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, list) and all(map(is_number, value)) else []


def _evaluated(run: RunRecord) -> list[Card]:
    """One card a command, of its newest result; the table below lists them all."""
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
    """The difference to the best baseline, in points."""
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
    """Seconds spent: where a resumed run counts from zero again, its parts are added."""
    seconds = [value for value in series_of(run.metrics, "seconds").y if value is not None]
    if not seconds:
        return None
    spent = seconds[0] + sum(max(0.0, later - sooner) for sooner, later in pairwise(seconds))
    speeds = series_of(run.metrics, "train/samples_per_second")
    known = [(step, value) for step, value in zip(speeds.x, speeds.y, strict=True) if value is not None]
    rates = [value for step, value in known if step != 1 or len(known) == 1]  # the first step starts everything up
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
        "remarks": [each for each in evaluation.remarks if not each.startswith("below ")],  # which the rows say
        "created": evaluation.created or "—",
        "data": data_in_words(evaluation.protocol),
        "protocol": flat_settings(short_protocol(evaluation.protocol)),
        "others": flat_settings(evaluation.others),
    }


def _features(others: dict[str, Any]) -> str:
    """What was evaluated: a checkpoint by its epoch, or what the encoder calls itself, as a baseline does."""
    epoch, architecture = others.get("epoch"), others.get("architecture")
    return f"epoch {epoch}" if is_number(epoch) else str(architecture or "—")
