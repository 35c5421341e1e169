"""`contrast demo`: pretrain on the digits, evaluate against baselines, write the report; the tour of the project."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrast.commands.pretrain import Request, pretrain
from contrast.commands.shipped import shipped_configuration
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    from contrast.commands.encoder import LoadedRun
    from contrast.evaluation.encoder import Encoder
    from contrast.evaluation.features import Features

__all__ = ["main"]

_SPLITS = range(5)
_PER_CLASS = 10
_NEIGHBOURS = 20


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="contrast demo",
        description="Pretrain SimCLR on scikit-learn's digits, probe it beside raw pixels and a random encoder, and "
        "write the report: minutes on two CPU cores.",
        epilog="example:\n  contrast demo --run runs/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the run's folder (default: runs/demo)")
    run = parser.parse_args(arguments).run
    started = time.perf_counter()
    folder = pretrain(Request(files=[shipped_configuration("demo.yaml")], run=run))
    seconds = time.perf_counter() - started
    summary = evaluate(folder) | {"pretrain_seconds": round(seconds, 1)}
    _finish(folder, summary)
    return 0


def evaluate(folder: RunFolder) -> dict[str, Any]:
    """The demo's numbers: a probe on all labels, probes on few, and kNN, for the run and its two baselines."""
    import lightning

    from contrast.commands.encoder import load_run
    from contrast.evaluation.encoder import raw_pixels, with_backbone
    from contrast.evaluation.intervals import paired_difference

    run = load_run(folder.path)
    lightning.seed_everything(run.config["seed_everything"], verbose=False)
    untrained = _untrained(run)
    encoders = {
        "pretrained": run.encoder,
        "raw_pixel": raw_pixels(run.encoder),
        "random_init": with_backbone(run.encoder, untrained, {"weights": "random"}),
    }
    found = {name: _numbers(encoder, run) for name, encoder in encoders.items()}
    ours = found.pop("pretrained")
    gains = {name: paired_difference(ours["few_label"], each["few_label"]) for name, each in found.items()}
    summary = {
        "linear_top1": ours["linear"],
        "knn_top1": ours["knn"],
        "few_label_top1": sum(ours["few_label"]) / len(_SPLITS),
        "few_label_gain_low": min(gain.low for gain in gains.values()),
    }
    for name, each in found.items():
        summary[f"{name}_linear_top1"] = each["linear"]
        summary[f"{name}_knn_top1"] = each["knn"]
        summary[f"{name}_few_label_top1"] = sum(each["few_label"]) / len(_SPLITS)
        summary[f"few_label_gain_over_{name}"] = [gains[name].mean, gains[name].low, gains[name].high]
    summary["test_images"] = len(run.data.test_images or ())
    return summary


def _untrained(run: LoadedRun) -> Any:
    """The run's backbone with the weights that a new one starts from."""
    import copy

    backbone = copy.deepcopy(run.backbone)
    for module in backbone.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    return backbone


def _numbers(encoder: Encoder, run: LoadedRun) -> dict[str, Any]:
    from contrast.evaluation.knn import knn_top1
    from contrast.evaluation.over_seeds import probe_over_seeds

    train, test = (_features(encoder, run, split) for split in ("train", "test"))
    classes = run.data.classes

    (all_labels,) = probe_over_seeds(train, test, classes, [0], fraction=1.0)
    few_labels = probe_over_seeds(train, test, classes, _SPLITS, per_class=_PER_CLASS)
    return {
        "linear": all_labels.top1,
        "few_label": [result.top1 for result in few_labels],
        "knn": knn_top1(test.features, test.labels, train.features, train.labels, classes, _NEIGHBOURS),
    }


def _features(encoder: Encoder, run: LoadedRun, split: Any) -> Features:
    import torch

    from contrast.evaluation.features import extract

    return extract(encoder, run.data.evaluation_loader(split), torch.device("cpu"))


def _finish(folder: RunFolder, summary: dict[str, Any]) -> None:
    from contrast.commands import report
    from contrast.evaluation.results import write_json

    write_json(folder.summary, summary)
    print(table(summary))
    print(f"\npretraining took {summary['pretrain_seconds']:.0f} s; all numbers: {folder.summary}")
    sys.stdout.flush()
    report.main([str(folder.path)])


def table(summary: dict[str, Any]) -> str:
    """The summary as a small table of top-1 accuracies in percent."""
    rows = [("features", "linear probe", f"{_PER_CLASS} labels a class", f"kNN-{_NEIGHBOURS}")]
    for title, start in (("pretrained", ""), ("random encoder", "random_init_"), ("raw pixels", "raw_pixel_")):
        linear, few_label, knn = (f"{summary[f'{start}{kind}_top1']:.1%}" for kind in ("linear", "few_label", "knn"))
        rows.append((title, linear, few_label, knn))
    lines = [f"{a:<15}{b:>14}{c:>19}{d:>9}" for a, b, c, d in rows]
    gain = summary["few_label_gain_low"]
    note = (
        f"{summary['test_images']} test images; with few labels the mean of {len(_SPLITS)} splits, and the gain over "
        f"each baseline is at least {100 * gain:.1f} points (95 % interval of the paired difference)"
    )
    return "\n".join(["", *lines, "", note])
