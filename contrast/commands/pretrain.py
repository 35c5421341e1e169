"""`contrast pretrain`: from a configuration to a run folder."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrast.commands.choices import choices
from contrast.commands.configuration import Composition, compose, short
from contrast.commands.shipped import shipped_configuration
from contrast.errors import InputError
from contrast.run_folder import RunFolder

__all__ = ["Request", "main", "pretrain", "read_request"]

_HELP = """\
Sections of a configuration, each also a flag with dots:
  model     the method and, in it, backbone, head, loss, optimizer, schedule
  data      train and test sets, views, batch_size, workers
  trainer   anything of Lightning's Trainer: max_epochs, accelerator, devices, precision, logger
  metrics, scores, pairs, bank, online_knn, checkpoints   what is recorded, and every how many steps or epochs
  seed_everything     the one seed of a run

Classes by their short names, or any class by its dotted path:
{choices}

`contrast pretrain --model.help MoCo` lists the arguments of one class.

examples:
  contrast pretrain
  contrast pretrain --config configs/demo.yaml --model.loss.objective DCL --trainer.max_epochs 2
  contrast pretrain --config configs/method/mocov2.yaml --config configs/data/cifar10.yaml \\
      --config configs/experiment/cifar10_mocov2.yaml --config configs/logger/wandb.yaml --run runs/m2
  contrast pretrain --resume runs/m2"""


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        files: configurations, in their order.
        flags: dotted names and their texts.
        run: the new run's folder; None makes a name.
        resume: the folder of a run to go on with.
        print_config: whether only the resolved configuration is wanted.
    """

    files: Sequence[Path] = ()
    flags: Sequence[tuple[str, str]] = ()
    run: Path | None = None
    resume: Path | None = None
    print_config: bool = False
    typed_help: Sequence[str] = field(default=())


def main(arguments: list[str]) -> int:
    """Run the command; exit code 0 when the run reached its end."""
    pretrain(read_request(arguments))
    return 0


def read_request(arguments: list[str]) -> Request:
    """Split the command line into what this command reads itself and the flags of a configuration."""
    listed = "\n".join(f"  {slot:<13}" + ", ".join(choices(slot)) for slot in _LISTED)
    parser = argparse.ArgumentParser(
        prog="contrast pretrain",
        usage="contrast pretrain [--config FILE]... [--SECTION.NAME VALUE]... [--run FOLDER] [--resume FOLDER]",
        description="Pretrain an encoder. Without a configuration this trains the demo on scikit-learn's digits.",
        epilog=_HELP.format(choices=listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action="append", default=[], type=Path, metavar="FILE", help="YAML; later over earlier"
    )
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="the new run's folder (default: runs/METHOD-TIME)")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with the run in this folder")
    parser.add_argument("--print_config", action="store_true", help="print the resolved configuration and stop")
    known, rest = parser.parse_known_args(arguments)
    if any(flag.split("=")[0].endswith(".help") for flag in rest):
        return Request(typed_help=rest)
    return Request(known.config, _flags(rest), known.run, known.resume, known.print_config)


_LISTED = (
    *("model", "loss", "objective", "temperature", "transforms", "weighting"),
    *("backbone", "head", "bank", "schedule", "views", "train"),
)


def _flags(rest: list[str]) -> list[tuple[str, str]]:
    flags = []
    words = iter(rest)
    for word in words:
        if not word.startswith("--") or len(word) < 3:
            raise InputError(f"{word!r} belongs to no flag: write --section.name VALUE")
        name, equals, text = word[2:].partition("=")
        if not equals:
            following = next(words, None)
            if following is None:
                raise InputError(f"--{name} has no value: write --{name} VALUE")
            text = following
        flags.append((name, text))
    return flags


def pretrain(request: Request) -> RunFolder:
    """Do what the request says; the run's folder.

    Raises:
        InputError: for anything wrong with the configuration, the data or the run folder.
        RunStopped: where the run ended before its last step.
    """
    composition = _compose(request)
    _quieten()
    from contrast.commands import parser as typed_side  # imports torch and Lightning: seconds

    typed_side.import_from_here()
    parser = typed_side.run_parser()
    if request.typed_help:
        typed_side.refused_in_one_line(lambda: parser.parse_args(list(request.typed_help)))
    _, plain = typed_side.resolve(parser, typed_side.complete(composition.config))
    if request.print_config:
        print(_as_yaml(plain), end="")
        return RunFolder(Path())
    from contrast.commands.run import fit

    folder = _folder(request, plain)
    for note in composition.notes:
        print(f"note    {note}", file=sys.stderr)
    try:
        fit(parser, plain, folder, resume=request.resume is not None)
    except InputError:
        # Refused before its first step, a run leaves nothing behind that would be in the way of the next try.
        if request.resume is None and not (folder.metrics.exists() or folder.last_checkpoint.exists()):
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def _compose(request: Request) -> Composition:
    if request.resume is not None:
        folder = RunFolder.existing(request.resume)
        if request.run is not None:
            raise InputError(f"--run {request.run} and --resume {request.resume} exclude each other: give one")
        if not folder.last_checkpoint.is_file():
            raise InputError(f"{str(folder.path)!r} has no checkpoint to go on from: start it anew under another name")
        return compose([folder.config, *request.files], request.flags)
    files = list(request.files) or [shipped_configuration("demo.yaml")]
    return compose(files, request.flags)


def _folder(request: Request, config: dict[str, Any]) -> RunFolder:
    if request.resume is not None:
        return RunFolder(request.resume)
    name = f"{short(config['model']['class_path']).lower()}-{time.strftime('%Y%m%d-%H%M%S')}"
    # Further processes of one run are started with the same words at another second.
    path = request.run or Path(os.environ.setdefault("CONTRAST_RUN", str(Path("runs") / name)))
    folder = RunFolder(path)
    if "LOCAL_RANK" in os.environ:
        return folder
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(
            f"run folder {str(path)!r} is in use: go on with it by --resume {path}, or give another name with --run"
        )
    folder.checkpoints.mkdir(parents=True)
    folder.config.write_text(_as_yaml(config))
    return folder


def _as_yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False)


def _quieten() -> None:
    """Leave out what Lightning says of itself: what it found on the machine, and advice that does not apply here."""
    import lightning  # noqa: F401  # it sets the levels of its loggers when imported, so that ours come after

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for about in ("does not have many workers", "Trying to infer the `batch_size`", "LeafSpec"):
        warnings.filterwarnings("ignore", message=f".*{about}.*")
