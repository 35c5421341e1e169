"""`contrast knn`: weighted k-nearest-neighbour accuracy of an encoder on a labelled data set."""

from __future__ import annotations

import argparse

from contrast.commands.arguments import OneLineParser
from contrast.commands.evaluating import add_baselines, add_source, load_source, origin, report

__all__ = ["main"]

EPILOG = """examples:
  contrast knn runs/first
  contrast knn runs/first --neighbours 20
  contrast knn --weights resnet50.pth --backbone resnet50 --data configs/data/imagenet100.yaml

kNN has nothing to train or select: a test sample gets the class with the largest total weight among its nearest train
samples. The command also measures the baselines: majority class, raw input and the same network with random weights."""


def main(argv: list[str]) -> int:
    """Evaluate the encoder, print accuracy, interval and a short protocol, and print the path of the result.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: for any mistake in the source, the data or the options.
    """
    arguments = _parser().parse_args(argv)
    run, root = load_source(arguments)
    from contrast.evaluation import choose_device, evaluate_knn

    device = choose_device(arguments.device)
    neighbours, temperature = arguments.neighbours, arguments.temperature
    result = evaluate_knn(run.encoder, run.data, root.features, device, neighbours, temperature, told=origin(run))
    report(result, root, run, arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast knn",
        description="Accuracy of the weighted cosine kNN on frozen features.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source(parser)
    add_baselines(parser)
    parser.add_argument(
        "--neighbours", type=int, default=200, metavar="K", help="default: 200; 20 is usual on small sets"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.1, metavar="T", help="weights are exp(s / T); default: 0.1"
    )
    return parser
