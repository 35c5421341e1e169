"""`contrast demo`: pretrain, evaluate against baselines and write a report, on the digits or with a configuration."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrast.commands.arguments import OneLineParser
from contrast.commands.configuration import compose, shipped_configuration
from contrast.commands.pretrain import Request, pretrain
from contrast.errors import InputError
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    from contrast.commands.loading import LoadedRun
    from contrast.data import TrainingData
    from contrast.evaluation import Baseline, Interval, Result

__all__ = ["main"]

_SPLITS = range(5)
_PER_CLASS = 10
_NEIGHBOURS = 20

_EPILOG = """examples:
  contrast demo --run runs/demo
  contrast demo --config configs/experiment/japanese_vowels_simclr.yaml --run runs/vowels

The data need labels and a test set."""


def main(arguments: list[str]) -> int:
    """Run the demo.

    Args:
        arguments: words after the subcommand.

    Returns:
        The exit code.
    """
    parser = OneLineParser(
        prog="contrast demo",
        description="Pretrain, probe the encoder beside its raw input and a random encoder, and write the report. "
        "Without a configuration: SimCLR on scikit-learn's digits, minutes on two CPU cores.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the run's folder (default: runs/demo)")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="YAML; later files win (default: the digits)",
    )
    known = parser.parse_args(arguments)
    files = known.config or [shipped_configuration("demo.yaml")]
    _check(files)
    started = time.perf_counter()
    folder = pretrain(Request(files=files, run=known.run))
    seconds = time.perf_counter() - started
    summary = evaluate(folder) | {"pretrain_seconds": round(seconds, 1)}
    _finish(folder, summary)
    return 0


def _check(files: Sequence[Path]) -> None:
    """Refuse a configuration without a test set before training begins."""
    data = compose(files, ()).config.get("data") or {}
    if isinstance(data, dict) and not data.get("init_args", {}).get("test"):
        raise InputError("the demo evaluates on data.test, and the configuration has none: give a test set")


def evaluate(folder: RunFolder) -> dict[str, Any]:
    """Evaluate the demo's run: linear probe on all labels, probes on few labels, and kNN, each with its baselines.

    Args:
        folder: folder of the finished run.

    Returns:
        The content of ``summary.json``.
    """
    from contrast.commands.loading import load_run
    from contrast.evaluation import write_result

    run = load_run(folder.path)
    results = _results(run, folder)
    for result in results.values():
        write_result(folder.evaluations, result)
    summary = _accuracies("", results)
    gains = {}
    # summary.json keeps the names of its first version.
    for name, key in ((f"raw_{run.data.value_name}", "raw_input"), ("random_init", "random_weights")):
        baselines = {kind: _baseline(result, key) for kind, result in results.items()}
        summary |= _accuracies(f"{name}_", {kind: baseline.result for kind, baseline in baselines.items()})
        gains[f"few_label_gain_over_{name}"] = _rounded(baselines["few_label"].difference)
    return summary | {
        "few_label_gain_low": min(low for _, low, _ in gains.values()),
        **gains,
        "samples_name": run.data.samples_name,
        "value_name": run.data.value_name,
        f"test_{run.data.samples_name}": results["linear"].protocol["test_samples"],
        "few_labels_per_class": results["few_label"].protocol["per_class"],
        "neighbours": results["knn"].protocol["neighbours"],
    }


def _results(run: LoadedRun, folder: RunFolder) -> dict[str, Result]:
    from contrast.commands.evaluating import origin
    from contrast.evaluation import choose_device, evaluate_knn, evaluate_probe, measure_baselines, with_notes

    data, device, cache, about = run.data, choose_device("auto"), folder.features, origin(run)
    # At most half of a class: with all of its samples, the five random choices of labels would be identical.
    few, neighbours = min(_PER_CLASS, max(1, _smallest_class(data) // 2)), min(_NEIGHBOURS, data.train_samples)
    results = {
        "linear": evaluate_probe(run.encoder, data, cache, device, [0], fraction=1.0, told=about),
        "few_label": evaluate_probe(run.encoder, data, cache, device, _SPLITS, per_class=few, told=about),
        "knn": evaluate_knn(run.encoder, data, cache, device, neighbours, told=about),
    }
    return {
        kind: with_notes(measure_baselines(result, run.encoder, run.untrained, data, cache, device), data)
        for kind, result in results.items()
    }


def _baseline(result: Result, name: str) -> Baseline:
    return next(baseline for baseline in result.baselines or () if baseline.name == name)


def _rounded(interval: Interval) -> list[float]:
    return [round(end, 4) for end in (interval.mean, interval.low, interval.high)]


def _smallest_class(data: TrainingData) -> int:
    labels = data.train_labels
    if labels is None:
        raise InputError("the demo evaluates, and the train set has no labels: give a labelled data.train")
    return min(Counter(labels.tolist()).values())


def _accuracies(start: str, results: dict[str, Result]) -> dict[str, Any]:
    top1s = {f"{start}{name}_top1": round(result.interval.mean, 4) for name, result in results.items()}
    ranked = {name: result.auroc for name, result in results.items() if result.auroc is not None}
    return top1s | {f"{start}{name}_macro_auroc": round(auroc.mean, 4) for name, auroc in ranked.items()}


def _finish(folder: RunFolder, summary: dict[str, Any]) -> None:
    from contrast.commands import report
    from contrast.evaluation.results import write_json

    write_json(folder.summary, summary)
    print(table(summary))
    print(f"\npretraining took {summary['pretrain_seconds']:.0f} s; all numbers: {folder.summary}")
    sys.stdout.flush()
    report.main([str(folder.path)])


def _least_gain(low: float) -> str:
    """Phrase for the lowest lower bound of the gains' confidence intervals over all baselines."""
    if low >= 0:
        return f"the gain over each baseline is at least {100 * low:.1f} points"
    return f"a loss of up to {-100 * low:.1f} points against a baseline cannot be excluded"


def table(summary: dict[str, Any]) -> str:
    """Format the summary as a small table of top-1 accuracies in percent."""
    samples, value = summary["samples_name"], summary["value_name"]
    few, neighbours = summary["few_labels_per_class"], summary["neighbours"]
    rows = [("features", "linear probe", f"{few} labels a class", f"kNN-{neighbours}")]
    for title, start in (("pretrained", ""), ("random encoder", "random_init_"), (f"raw {value}s", f"raw_{value}_")):
        linear, few_label, knn = (f"{summary[f'{start}{kind}_top1']:.1%}" for kind in ("linear", "few_label", "knn"))
        rows.append((title, linear, few_label, knn))
    lines = [f"{a:<15}{b:>14}{c:>19}{d:>9}" for a, b, c, d in rows]
    note = (
        f"{summary[f'test_{samples}']} test {samples}; with few labels the mean of {len(_SPLITS)} splits, and "
        f"{_least_gain(summary['few_label_gain_low'])} (95 % interval of the paired difference)"
    )
    return "\n".join(["", *lines, "", note])
