"""`contrast export`: write the backbone as safetensors with a model card, for use with plain torchvision or timm."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrast.commands.arguments import OneLineParser
from contrast.commands.evaluating import add_trust
from contrast.errors import InputError
from contrast.records import read_object

if TYPE_CHECKING:
    from contrast.commands.loading import LoadedRun

__all__ = ["main"]

EPILOG = """examples:
  contrast export runs/first                                writes runs/first/export
  contrast export runs/first/checkpoints/epoch-0100.ckpt --output encoder-100

The card's `rebuild` is Python code that builds the network, without this package if torchvision or timm has it. Its
`evaluations` are the results of exactly these weights."""


def main(argv: list[str]) -> int:
    """Write the weights and the card, and print the path of the weights.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: if the run or checkpoint does not exist, or no output folder is known.
    """
    arguments = _parser().parse_args(argv)
    from contrast.commands.loading import load_run  # takes seconds: imports torch and Lightning

    run = load_run(arguments.source, trust=arguments.trust)
    if arguments.output is None and run.folder is None:
        raise InputError(f"{str(arguments.source)!r} is not in a run folder: give --output FOLDER")
    if run.folder is not None and not arguments.trust:
        from contrast.commands.trust import require_no_links

        require_no_links(run.folder)
    from contrast.evaluation import export

    changed = run.changed_data()
    if changed:
        print(
            f"note    the training data differ from the checkpoint's ({changed}): the card has the checkpoint's",
            file=sys.stderr,
        )
    folder = arguments.output or (run.folder.export if run.folder else Path())
    print(export(run.backbone, _card(run), folder))
    about = run.backbone.describe()
    if about.get("rebuild_needs") == "contrast":
        print(
            f"note    neither torchvision nor timm has this {about['architecture']}: the card's `rebuild` needs the "
            "contrast package",
            file=sys.stderr,
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast export",
        description="Write a run's backbone as backbone.safetensors and card.json.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", type=Path, metavar="RUN", help="run folder (its last checkpoint) or .ckpt file")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write (default: RUN/export)")
    add_trust(parser)
    return parser


def _card(run: LoadedRun) -> dict[str, Any]:
    return {
        "method": run.method,
        "epoch": run.epoch,
        "fingerprint": run.encoder.fingerprint,
        "input": run.data.describe_input(),
        "data": _data(run),
        "configuration": run.config,
        "evaluations": _evaluations(run),
    }


def _data(run: LoadedRun) -> dict[str, Any]:
    """Description of the data that the weights were trained on.

    This is the current data if unchanged, otherwise the record in the checkpoint.
    """
    described = run.data.describe("train")
    if run.trained_on is None or run.changed_data() is None:
        return described
    then = run.trained_on
    ours = {"samples": then.samples, "names": then.names, "labels": then.labels, "contents": then.contents}
    kept: dict[str, Any] = {
        name: described[name] for name in ("set", "path", "split", "transform") if name in described
    }
    return {**kept, **ours, "contents_of": then.contents_of}


def _evaluations(run: LoadedRun) -> list[dict[str, Any]]:
    """Results of evaluations of exactly these weights, in order of file name."""
    files = sorted(run.folder.evaluations.glob("*.json")) if run.folder else []
    results = [_result(path) for path in files]
    return [result for result in results if result.get("fingerprint") == run.encoder.fingerprint]


def _result(path: Path) -> dict[str, Any]:
    content = read_object(path)
    if content is None:
        raise InputError(f"{str(path)!r} is not a complete JSON object: remove it, or evaluate again")
    return content
