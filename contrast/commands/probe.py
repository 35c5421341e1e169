"""`contrast probe`: linear probe, few-label probe or fine-tuning of an encoder on a labelled data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from contrast.commands.arguments import OneLineParser
from contrast.commands.evaluating import add_baselines, add_source, load_source, origin, report
from contrast.errors import InputError
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    from contrast.commands.loading import LoadedRun
    from contrast.evaluation import FineTuning, Result

__all__ = ["main"]

EPILOG = """examples:
  contrast probe runs/first                                  all labels, frozen features
  contrast probe runs/first --fraction 0.01 --seeds 5        one label in a hundred
  contrast probe runs/first --finetune --fraction 0.1        end to end
  contrast probe runs/stl --data configs/data/stl10_labelled.yaml
  contrast probe --weights moco_v2_800ep.pth.tar --backbone resnet50 --data configs/data/imagenet100.yaml

Hyperparameters are chosen on a held-out fifth of the labelled train samples, never on test. The result is a JSON file
that states the whole protocol; features are kept in RUN/features and computed once. Beside the encoder the command
measures what it must beat: the majority class, raw input and the same network with random weights."""


def main(argv: list[str]) -> int:
    """Evaluate the encoder, print accuracy, interval and a short protocol, and print the path of the result.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: for any mistake in the source, the data or the options.
    """
    arguments = _parser().parse_args(argv)
    _check(arguments)
    run, root = load_source(arguments)
    report(_evaluate(run, root, arguments), root, run, arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast probe",
        description="Accuracy and macro AUROC of a linear classifier on frozen features, or of the fine-tuned encoder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source(parser)
    add_baselines(parser)
    parser.add_argument("--fraction", type=float, metavar="F", help="share of the train labels to use (default: 1)")
    parser.add_argument("--per-class", type=int, metavar="N", help="number of labels per class, in place of --fraction")
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="number of seeds, each with its own labels and held-out part (default: 5; finetune: 3)",
    )
    parser.add_argument("--finetune", action="store_true", help="train the backbone too (default: frozen features)")
    parser.add_argument("--epochs", type=int, metavar="N", help="with --finetune: number of epochs (default: 20)")
    parser.add_argument(
        "--flip",
        type=float,
        metavar="P",
        help="with --finetune on images: probability of a left-to-right flip (default: as in pretraining, else 0.5)",
    )
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Check the options that need no loading, and set the default amount of labels."""
    if arguments.fraction is not None and arguments.per_class is not None:
        raise InputError("--fraction and --per-class exclude each other: give one")
    if arguments.fraction is None and arguments.per_class is None:
        arguments.fraction = 1.0
    for name in ("seeds", "epochs"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise InputError(f"--{name} {getattr(arguments, name)}: give at least 1")
    if not arguments.finetune and (arguments.epochs is not None or arguments.flip is not None):
        raise InputError("--epochs and --flip need --finetune: add it")


def _evaluate(run: LoadedRun, root: RunFolder, arguments: argparse.Namespace) -> Result:
    from contrast.evaluation import choose_device, evaluate_finetuning, evaluate_probe

    device = choose_device(arguments.device)
    fraction, per_class = arguments.fraction, arguments.per_class
    if arguments.finetune:
        seeds = range(arguments.seeds or 3)
        settings = _settings(run, arguments)
        return evaluate_finetuning(
            run.encoder, run.data, device, seeds, settings, fraction=fraction, per_class=per_class, told=origin(run)
        )
    seeds = range(arguments.seeds or 5)
    return evaluate_probe(
        run.encoder, run.data, root.features, device, seeds, fraction=fraction, per_class=per_class, told=origin(run)
    )


def _settings(run: LoadedRun, arguments: argparse.Namespace) -> FineTuning:
    from contrast.data import ImageData
    from contrast.evaluation import FineTuning

    if not isinstance(run.data, ImageData):
        if arguments.flip is not None:
            raise InputError(f"--flip needs images, and the data are {run.data.samples_name}: leave it out")
        return FineTuning(epochs=arguments.epochs or 20, crop_scale=None)
    views = run.config.get("data", {}).get("init_args", {}).get("views", {}).get("init_args", {})
    # If the pretraining recipe has no flip, a mirror image may belong to another class: do not flip here either.
    flip = views.get("flip", 0.5) if arguments.flip is None else arguments.flip
    return FineTuning(epochs=arguments.epochs or 20, flip=flip)
