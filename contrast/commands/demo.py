"""`contrast demo`: pretrain on the digits, evaluate against baselines, write the report; the tour of the project."""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrast.commands.pretrain import Request, pretrain
from contrast.commands.shipped import shipped_configuration
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from contrast.commands.encoder import LoadedRun
    from contrast.evaluation import Encoder, Result

__all__ = ["main", "untrained"]

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
    from contrast.commands.encoder import load_run
    from contrast.evaluation import paired_difference, raw_pixels, with_backbone, write_result

    run = load_run(folder.path)
    ours = _results(run.encoder, run, folder)
    for result in ours.values():
        write_result(folder.evaluations, result)
    baselines = {
        "raw_pixel": raw_pixels(run.encoder),
        "random_init": with_backbone(run.encoder, untrained(run), {"weights": "random"}),
    }
    summary = _accuracies("", ours)
    gains = {}
    for name, encoder in baselines.items():
        theirs = _results(encoder, run, folder)
        gain = paired_difference(_top1s(ours["few_label"]), _top1s(theirs["few_label"]))
        summary |= _accuracies(f"{name}_", theirs)
        gains[f"few_label_gain_over_{name}"] = [round(each, 4) for each in (gain.mean, gain.low, gain.high)]
    lowest = min(low for _, low, _ in gains.values())
    assert run.data.test_images is not None  # the digits have one
    return summary | {"few_label_gain_low": lowest, **gains, "test_images": len(run.data.test_images)}


def _results(encoder: Encoder, run: LoadedRun, folder: RunFolder) -> dict[str, Result]:
    from contrast.commands.source import told
    from contrast.evaluation import choose_device, evaluate_knn, evaluate_probe

    device, cache, about = choose_device("auto"), folder.features, told(run)
    return {
        "linear": evaluate_probe(encoder, run.data, cache, device, [0], fraction=1.0, told=about),
        "few_label": evaluate_probe(encoder, run.data, cache, device, _SPLITS, per_class=_PER_CLASS, told=about),
        "knn": evaluate_knn(encoder, run.data, cache, device, _NEIGHBOURS, told=about),
    }


def _accuracies(start: str, results: dict[str, Result]) -> dict[str, Any]:
    return {f"{start}{name}_top1": round(result.interval.mean, 4) for name, result in results.items()}


def _top1s(result: Result) -> list[float]:
    return [seed["top1"] for seed in result.per_seed]


def untrained(run: LoadedRun) -> nn.Module:
    """The run's backbone with the weights that a new one starts from."""
    import lightning

    lightning.seed_everything(run.config["seed_everything"], verbose=False)
    backbone = copy.deepcopy(run.backbone)
    for module in backbone.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    return backbone


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
