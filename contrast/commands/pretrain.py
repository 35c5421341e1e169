"""`contrast pretrain`: from a configuration to a run folder."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from contrast.commands.configuration import Composition, compose, short
from contrast.commands.environment import only_training, restored_environment
from contrast.commands.request import Request, read_request
from contrast.commands.shipped import shipped_configuration
from contrast.errors import InputError
from contrast.run_folder import RunFolder

__all__ = ["Request", "main", "pretrain", "read_request"]


def main(arguments: list[str]) -> int:
    """Run the command; exit code 0 when the run reached its end."""
    pretrain(read_request(arguments))
    return 0


def pretrain(request: Request) -> RunFolder:
    """Do what the request says; the run's folder.

    Raises:
        InputError: for anything wrong with the configuration, the data or the run folder.
        RunStopped: where the run ended before its last step.
    """
    with only_training(), restored_environment():
        return _pretrain(request)


def _pretrain(request: Request) -> RunFolder:
    request = _found(request)
    composition = _compose(request)
    _quieten()
    from contrast.commands import parser as typed_side  # imports torch and Lightning: seconds
    from contrast.commands import starting
    from contrast.commands.completing import complete
    from contrast.commands.stored_defaults import with_chosen_stem

    config, received = _received(request, composition.config)
    parser = typed_side.run_parser()
    if request.typed_help:
        typed_side.refused_in_one_line(lambda: parser.parse_args(list(request.typed_help)))
    _, plain = typed_side.resolve(parser, complete(config))
    plain, chosen = with_chosen_stem(plain)
    if request.print_config:
        print(_as_yaml(plain), end="")
        return RunFolder(Path())
    starting.require_own_processes()
    folder = _folder(request, plain)
    for note in (*composition.notes, *chosen):
        print(f"note    {note}", file=sys.stderr)
    _train(parser, plain, folder, request, received)
    return folder


def _received(request: Request, config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The configuration after the check of what a run folder adds to it, and whether it was received.

    The current folder is searched for classes only where the user names some: it may be the stranger's folder.
    """
    from contrast.commands import parser as typed_side
    from contrast.commands.trust import names_own_classes, note_online_logger, receive, require_no_links

    received = request.resume is not None and not request.trust
    given = compose(request.files, request.flags).config if received else {}
    if not received or names_own_classes(given):
        typed_side.import_from_here()
    if request.resume is not None and received:
        where = f"run folder {str(request.resume)!r}"
        config = receive(config, where, given)
        require_no_links(RunFolder(request.resume))
        if "logger" not in given.get("trainer", {}):
            note_online_logger(config, where)
    return config, received


def _train(parser: Any, config: dict[str, Any], folder: RunFolder, request: Request, received: bool) -> None:
    from contrast.commands.resuming import alone_in, checkpoint_to_resume
    from contrast.commands.run import fit
    from contrast.commands.starting import begin, cleared_if_refused, said_to_start

    if request.resume is not None:
        with alone_in(folder):
            checkpoint = checkpoint_to_resume(folder)
            with said_to_start(folder):
                fit(parser, config, folder, checkpoint, received, request.on_changed_data)
        return
    with alone_in(folder), cleared_if_refused(folder, request.again):
        begin(folder, _as_yaml(config))
        with said_to_start(folder):
            fit(parser, config, folder, None)


def _found(request: Request) -> Request:
    """The request with `--resume auto` decided: on with the run, or from its beginning."""
    if request.resume != Path("auto"):
        return request
    if request.run is None:
        raise InputError("--resume auto needs --run FOLDER: the folder to go on in, or to start")
    folder = RunFolder(request.run)
    if _has_checkpoint(folder):
        return dataclasses.replace(request, run=None, resume=request.run)
    return dataclasses.replace(request, resume=None, again=folder.config.is_file())


def _has_checkpoint(folder: RunFolder) -> bool:
    return folder.last_checkpoint.is_file() or folder.previous_checkpoint.is_file()


def _compose(request: Request) -> Composition:
    if request.resume is not None:
        folder = RunFolder.existing(request.resume)
        if request.run is not None:
            raise InputError(f"--run {request.run} and --resume {request.resume} exclude each other: give one")
        if not _has_checkpoint(folder):
            raise InputError(
                f"{str(folder.path)!r} has no checkpoint to go on from: start it anew under another name, or with "
                f"--run {folder.path} --resume auto"
            )
        return compose([folder.config, *request.files], request.flags)
    files = list(request.files) or [shipped_configuration("demo.yaml")]
    return compose(files, request.flags)


def _folder(request: Request, config: dict[str, Any]) -> RunFolder:
    from contrast.commands.starting import claimed, require_new

    if request.resume is not None:
        return RunFolder(request.resume)
    name = f"{short(config['model']['class_path']).lower()}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = RunFolder(request.run or claimed(Path("runs"), name))
    if not request.again:
        require_new(folder)
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
