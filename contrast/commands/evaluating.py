"""What the evaluation commands share: options for the encoder and its data, and the report of a result.

This module imports no torch, so that ``contrast knn --help`` starts fast.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrast.errors import InputError
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    from contrast.commands.loading import LoadedRun
    from contrast.evaluation import Baseline, Result

__all__ = ["add_baselines", "add_source", "add_trust", "load_source", "origin", "report"]


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that select the encoder, the data and the output folder of an evaluation.

    Args:
        parser: the parser that gets the options.
    """
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="RUN", help="run folder (its last checkpoint) or .ckpt file"
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="YAML with a data section to evaluate on (default: the run's own)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="in place of RUN: an official MoCo checkpoint, a torchvision or timm state dict, an exported backbone",
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="with --weights: torchvision's name, say resnet50, or timm/NAME"
    )
    parser.add_argument(
        "--weights-prefix",
        metavar="PREFIX",
        help="with --weights: prefix of the network's names in the file, for example student. (default: detected)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for evaluations/ and features/ (default: RUN; with --weights runs/ and the file's name)",
    )
    add_trust(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option `--trust`."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let RUN's stored configuration name any class, and run its code (default: only harmless classes)",
    )


def add_baselines(parser: argparse.ArgumentParser) -> None:
    """Add the option `--no-baselines`."""
    parser.add_argument(
        "--no-baselines",
        action="store_true",
        help="do not measure majority class, raw input and random weights beside the encoder (default: measure them)",
    )


def load_source(arguments: argparse.Namespace) -> tuple[LoadedRun, RunFolder]:
    """Load the encoder and data that the options of `add_source` select.

    Args:
        arguments: the parsed options.

    Returns:
        The loaded run, and the folder for the results.

    Raises:
        InputError: if the options select no encoder or two, or if loading fails.
    """
    if (arguments.source is None) == (arguments.weights is None):
        raise InputError("give either RUN or --weights FILE")
    if (arguments.weights is None) != (arguments.backbone is None):
        raise InputError("--weights and --backbone go together: give the file and the architecture, say resnet50")
    if arguments.weights_prefix is not None and arguments.weights is None:
        raise InputError("--weights-prefix belongs to --weights FILE: leave it out for a run")
    if arguments.source is not None and not arguments.source.is_file():
        RunFolder.existing(arguments.source)  # fails before the slow import of torch
    from contrast.commands.loading import load_foreign, load_run  # takes seconds: imports torch and Lightning

    if arguments.weights is not None:
        run = load_foreign(arguments.weights, arguments.backbone, arguments.data, arguments.weights_prefix)
    else:
        run = load_run(arguments.source, arguments.data, arguments.trust)
    run.data.setup("test")  # raises if the classes of training and test set differ
    if run.folder is not None and not arguments.trust:
        from contrast.commands.trust import require_no_links

        require_no_links(run.folder)
    elsewhere = RunFolder(Path("runs") / run.checkpoint.name.split(".")[0])
    return run, RunFolder(arguments.output) if arguments.output else run.folder or elsewhere


def origin(run: LoadedRun) -> dict[str, Any]:
    """Origin of the encoder (run and checkpoint), as stored in a result."""
    if run.folder is None or not run.checkpoint.is_relative_to(run.folder.path):
        return {"run": None, "checkpoint": str(run.checkpoint)}
    return {"run": run.folder.path.name, "checkpoint": str(run.checkpoint.relative_to(run.folder.path))}


def report(result: Result, root: RunFolder, run: LoadedRun, arguments: argparse.Namespace) -> Result:
    """Write an evaluation's result and its baselines, and print a summary.

    The summary has the accuracy, a short protocol, the baselines and the path of the file.

    Args:
        result: result of the encoder.
        root: folder for the file and the cached features of the baselines.
        run: the loaded run that was evaluated.
        arguments: parsed options of `add_source` and `add_baselines`, with `device` and `no_baselines`.

    Returns:
        The result with its notes and, if measured, its baselines.
    """
    from contrast.evaluation import choose_device, measure_baselines, with_notes, write_result
    from contrast.report.overview import data_in_words

    changed = run.changed_data()
    also = (f"the train set differs from the set that the encoder was pretrained on: {changed}",) if changed else ()
    result = with_notes(result, run.data, also)
    path = write_result(root.evaluations, result)  # written before the baselines, which take time
    protocol = result.protocol
    balanced = "" if result.balanced is None else f"; balanced accuracy {100 * result.balanced:.2f} %"
    print(f"{result.command}: top-1 {_percent(*vars(result.interval).values())}{balanced}{_auroc(result)}")
    print(
        f"  {protocol['classifier']}; {protocol['train_samples']:,} labels, {protocol['test_samples']:,} test samples"
    )
    for line in data_in_words(dict(protocol)):
        print(f"  {line}")
    print(f"  selection: {protocol['selection']}")
    print(f"  interval: {protocol['interval']}")
    if arguments.no_baselines:
        print("  baselines: none measured (--no-baselines)")
    else:
        print(f"  {'baseline':<16}{'top-1':<28}encoder minus baseline, points", flush=True)
        device = choose_device(arguments.device)
        result = measure_baselines(result, run.encoder, run.untrained, run.data, root.features, device, _tell)
        if result.command == "finetune":
            print(f"  {'random weights':<16}not measured: training them from scratch takes as long as this fine-tuning")
        result = with_notes(result, run.data, also)
        path = write_result(root.evaluations, result)
    for note in result.notes:
        print(f"  note: {note}")
    print(path)
    return result


def _tell(baseline: Baseline) -> None:
    """Print one row of the table of baselines as soon as it is measured."""
    own, difference = baseline.result.interval, baseline.difference
    points = f"{100 * difference.mean:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
    print(f"  {baseline.words:<16}{_percent(own.mean, own.low, own.high):<28}{points}", flush=True)


def _percent(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def _auroc(result: Result) -> str:
    found = result.auroc
    return f"; macro AUROC {found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]" if found else ""
