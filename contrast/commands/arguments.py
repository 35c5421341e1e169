"""Command-line parsing: the arguments of `contrast pretrain`, and an argument parser with one-line errors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from contrast.commands.class_names import choices
from contrast.commands.configuration import require_section
from contrast.errors import InputError
from contrast.run_folder import RunFolder

__all__ = ["OneLineParser", "Request", "read_request"]


class OneLineParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` with one-line errors: an error does not print the usage.

    Example:
        >>> parser = OneLineParser(prog="contrast knn")
        >>> _ = parser.add_argument("--neighbours", type=int)
        >>> parser.parse_args(["--neighbours", "x"])
        Traceback (most recent call last):
        contrast.errors.InputError: argument --neighbours: invalid int value: 'x' (see contrast knn --help)
    """

    def error(self, message: str) -> NoReturn:
        """Raise an `InputError` with the message, instead of printing the usage and exiting."""
        raise InputError(f"{message} (see {self.prog} --help)")


_HELP = """\
Sections of a configuration, each also a flag with dots:
  model     the method and, in it, backbone, head, loss, optimizer, schedule
  data      train and test sets, views, batch_size, workers
  trainer   arguments of Lightning's Trainer: max_epochs, accelerator, devices, precision, logger
  metrics, scores, pairs, bank, online_knn, checkpoints   what is recorded, and how often
  seed_everything     the only seed of a run

Classes by their short names, or any class by its dotted path:
{choices}

`contrast pretrain --model.help MoCo` lists the arguments of one class.

examples:
  contrast pretrain
  contrast pretrain --config configs/demo.yaml --model.loss.objective DCL --trainer.max_epochs 2
  contrast pretrain --config configs/method/mocov2.yaml --config configs/data/cifar10.yaml \\
      --config configs/experiment/cifar10_mocov2.yaml --config configs/logger/wandb.yaml --run runs/m2
  contrast pretrain --resume runs/m2
  contrast pretrain --config configs/demo.yaml --run runs/job --resume auto      # this command starts or resumes

Exit codes: 0 if the run is complete, 1 if it failed, 2 for wrong input, and 128 + the signal's number if the run was
told to stop and saved everything: 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM, 138 SLURM's warning SIGUSR1 (SLURM then starts
the job again)."""

_LISTED = (
    *("model", "loss", "objective", "temperature", "transforms", "weighting"),
    *("backbone", "head", "bank", "schedule", "views", "train"),
)


@dataclass(frozen=True)
class Request:
    """Parsed command line of `contrast pretrain`.

    Attributes:
        files: configuration files in the order given.
        flags: pairs of a dotted setting name and its value as text.
        run: folder of the new run; None generates a name.
        resume: folder of the run to resume; ``auto`` means the folder `run`, if it has a checkpoint.
        on_changed_data: whether to resume although the training data differ from the checkpoint's.
        print_config: whether to print the resolved configuration and stop.
        typed_help: the words of a request for the arguments of a class, such as ``--model.help MoCo``; otherwise empty.
        trust: whether the configuration of a resumed run may name any class.
        again: whether the folder holds a run that ended before its first checkpoint.
    """

    files: Sequence[Path] = ()
    flags: Sequence[tuple[str, str]] = ()
    run: Path | None = None
    resume: Path | None = None
    print_config: bool = False
    typed_help: Sequence[str] = field(default=())
    again: bool = False
    trust: bool = False
    on_changed_data: bool = False


class _Parser(OneLineParser):
    """Parser that lists all classes in its help text.

    The list is made only when help is requested, because reading all sources takes a third of a second.
    """

    def format_help(self) -> str:
        listed = "\n".join(f"  {slot:<13}" + ", ".join(choices(slot)) for slot in _LISTED)
        self.epilog = _HELP.format(choices=listed)
        return super().format_help()


def read_request(arguments: list[str]) -> Request:
    """Parse the command line of `contrast pretrain` into its own options and the flags of a configuration.

    Args:
        arguments: words after the subcommand.

    Raises:
        InputError: one line, for an unknown option, a flag without a value, or options that exclude each other.
    """
    parser = _Parser(
        prog="contrast pretrain",
        usage="contrast pretrain [--config FILE]... [--SECTION.NAME VALUE]... [--run FOLDER] [--resume FOLDER]",
        description="Pretrain an encoder. Without a configuration this trains the demo on scikit-learn's digits.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action="append", default=[], type=Path, metavar="FILE", help="YAML; later files win"
    )
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="the new run's folder (default: runs/METHOD-TIME)")
    again = (
        "resume the run in this folder; auto: resume the run in --run's folder if it has a checkpoint, else start it"
    )
    parser.add_argument("--resume", type=_resumed, metavar="FOLDER", help=again)
    trust = "with --resume: let the run folder's configuration name any class, and run its code"
    parser.add_argument("--trust", action="store_true", help=trust)
    parser.add_argument(
        "--resume-on-changed-data",
        action="store_true",
        help="with --resume: accept added, removed or changed training samples; samples are matched by name",
    )
    parser.add_argument("--print_config", action="store_true", help="print the resolved configuration and stop")
    known, rest = parser.parse_known_args(arguments)
    if any(flag.split("=")[0].endswith(".help") for flag in rest):
        return Request(typed_help=rest)
    on_changed_data = known.resume_on_changed_data
    if on_changed_data and known.resume is None:
        raise InputError("--resume-on-changed-data needs --resume FOLDER: give both")
    return Request(
        known.config,
        _flags(rest),
        known.run,
        known.resume,
        known.print_config,
        trust=known.trust,
        on_changed_data=on_changed_data,
    )


def _resumed(text: str) -> Path:
    """Path of `--resume`; the word ``auto`` stays as it is, and a folder named auto is given as ``./auto``."""
    return Path(text) if text in ("auto", "") else Path(text).absolute() if Path(text) == Path("auto") else Path(text)


def _flags(rest: list[str]) -> list[tuple[str, str]]:
    flags = []
    words = iter(rest)
    for word in words:
        if not word.startswith("--") or len(word) < 3:
            raise InputError(f"{word!r} does not belong to a flag: {_meant(word)}")
        name, equals, text = word[2:].partition("=")
        require_section(name, of_flag=True)
        if not equals:
            following = next(words, None)
            if following is None:
                raise InputError(f"--{name} has no value: write --{name} VALUE")
            text = following
        flags.append((name, text))
    return flags


def _meant(word: str) -> str:
    """Suggestion for a word that follows no flag."""
    path = Path(word)
    if path.suffix in (".yaml", ".yml"):
        return f"did you mean --config {word}?"
    if RunFolder(path).config.is_file():
        return f"did you mean --resume {word}?"
    return "write --section.name VALUE"
