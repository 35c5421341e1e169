"""`contrast duplicates`: find near-duplicates within the training set, and between training and test set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contrast.commands.arguments import OneLineParser
from contrast.commands.evaluating import add_source, load_source, origin
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from contrast.commands.loading import LoadedRun
    from contrast.data import TrainingData
    from contrast.data.training_data import Split
    from contrast.evaluation import Features, NearPairs

__all__ = ["main"]

EPILOG = """examples:
  contrast duplicates runs/first
  contrast duplicates runs/first --threshold 0.999
  contrast duplicates --weights resnet50.pth --backbone resnet50 --data configs/data/imagenet100.yaml

Features are the encoder's outputs for unaugmented samples, so different samples may look alike to the encoder: check
the picture before you remove samples. Labels are optional; with labels, pairs of different classes are counted."""

_LISTED = 100_000  # maximum number of pairs of each kind in the file
_SHOWN = 40


def main(argv: list[str]) -> int:
    """Find near-duplicates, print their number, and write the pairs and a picture of the closest pairs.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: for any mistake in the source, the data or the options.
    """
    arguments = _parser().parse_args(argv)
    run, root = load_source(arguments)
    _search(run, root, arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast duplicates",
        description="Find near-duplicate samples by their features: within train, and between train and test.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_source(parser)
    parser.add_argument(
        "--threshold", type=float, default=0.99, metavar="C", help="smallest cosine of a reported pair; default: 0.99"
    )
    parser.add_argument(
        "--neighbours",
        type=int,
        default=10,
        metavar="K",
        help="nearest samples to search for each sample; default: 10",
    )
    return parser


def _search(run: LoadedRun, root: RunFolder, arguments: argparse.Namespace) -> None:
    from contrast.evaluation import choose_device, features_of, made_with, near_across, near_within, write_json
    from contrast.report.overview import data_in_words

    device = choose_device(arguments.device)
    splits: list[Split] = ["train", "test"] if run.data.test_set is not None else ["train"]
    sets = {split: features_of(run.encoder, run.data, split, root.features, device, labelled=False) for split in splits}
    train, limits = sets["train"].features.to(device), (arguments.threshold, arguments.neighbours)
    found = {"within train": near_within(train, *limits, "pairs within train")}
    if "test" in sets:
        test = sets["test"].features.to(device)
        found["test and train"] = near_across(test, train, *limits, "pairs of test and train")
    content: dict[str, Any] = {
        **origin(run),
        **run.encoder.description,
        "fingerprint": run.encoder.fingerprint,
        "threshold": arguments.threshold,
        "neighbours": arguments.neighbours,
        "data": {split: run.data.describe(split) for split in splits},
        "made_with": made_with(device),
    }
    sides: dict[str, tuple[Split, Split]] = {"within train": ("train", "train"), "test and train": ("test", "train")}
    for kind, pairs in found.items():
        first, second = (sets[split] for split in sides[kind])
        content[kind] = _described(pairs, first, second, run.data, sides[kind])
        _print(kind, content[kind], len(first.labels))
        if len(pairs):
            _draw(run, root, kind, sides[kind], pairs, first.labels, second.labels)
    for line in data_in_words(content):
        print(line)
    print(write_json(root.duplicates / "duplicates.json", content))


def _described(
    pairs: NearPairs, first: Features, second: Features, data: TrainingData, sides: tuple[Split, Split]
) -> dict[str, Any]:
    """Content of duplicates.json for one kind of pairs.

    It holds the counts, the pairs as [sample, sample, cosine] and, where available, the files and class names of the
    pairs.
    """
    from contrast.evaluation import of_two_classes

    paired = {*pairs.first.tolist(), *(pairs.second.tolist() if sides[0] == sides[1] else ())}
    places = list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.cosine.tolist(), strict=True))[:_LISTED]
    found: dict[str, Any] = {
        "pairs": len(pairs),
        "complete": pairs.complete,
        "samples": len(paired),
        "of_two_classes": of_two_classes(pairs, first.labels, second.labels),
        "listed": [[one, other, round(cosine, 6)] for one, other, cosine in places],
    }
    names = [data.sample_names(split) for split in sides]
    if names[0] is not None and names[1] is not None:
        found["paths"] = [[names[0][one], names[1][other]] for one, other, _ in places]
    if data.class_names:
        labels = first.labels.tolist(), second.labels.tolist()
        found["classes"] = [
            [data.class_name(labels[0][one]), data.class_name(labels[1][other])] for one, other, _ in places
        ]
    return found


def _print(kind: str, found: dict[str, Any], samples: int) -> None:
    classes = "" if found["of_two_classes"] is None else f"; {found['of_two_classes']:,} of them of different classes"
    least = "" if found["complete"] else "at least "
    print(f"{kind}: {least}{found['pairs']:,} pairs, {found['samples']:,} of {samples:,} samples{classes}")


def _draw(
    run: LoadedRun,
    root: RunFolder,
    kind: str,
    sides: Sequence[str],
    pairs: NearPairs,
    first: Tensor,
    second: Tensor,
) -> None:
    """Write a picture of the closest pairs, if the samples are images."""
    from contrast.data import ImageData
    from contrast.evaluation.duplicates import Shown, pairs_sheet

    if not isinstance(run.data, ImageData):
        return
    sets = [run.data.test_set if split == "test" else run.data.train_set for split in sides]
    shown: list[Shown] = []
    for one, other, cosine in list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.cosine, strict=True))[
        :_SHOWN
    ]:
        labels = int(first[one]), int(second[other])
        differ = min(labels) >= 0 and labels[0] != labels[1]
        below = _classes(run.data, labels)
        images = [samples[place][0] for samples, place in zip(sets, (one, other), strict=True) if samples is not None]
        shown.append((images[0], images[1], f"{one} · {other}   {cosine:.4f}", below, differ))
    least = "" if pairs.complete else "at least "
    title = f"{kind}: the {len(shown)} closest of {least}{len(pairs):,} pairs"
    print(pairs_sheet(root.duplicates / f"{kind.replace(' ', '_')}.png", shown, title))


def _classes(data: TrainingData, labels: tuple[int, int]) -> str:
    """The classes of a pair in words: their names if the data set has names, else their numbers."""
    names = [data.class_name(label) or "" for label in labels]
    if not all(names) or any(name.isdecimal() for name in names):
        names = [f"class {label}" if label >= 0 else "" for label in labels]
    return " and ".join(filter(None, dict.fromkeys(names)))
