"""`contrast pretrain`: train an encoder from a configuration, or resume a run."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrast.commands.arguments import Request, read_request
from contrast.commands.configuration import Composition, compose, shipped_configuration, short
from contrast.commands.environment import only_training, restored_environment
from contrast.errors import InputError
from contrast.records import read_text
from contrast.run_folder import RunFolder
from contrast.runs.history import changed_settings, describe_changes
from contrast.runs.next_command import had_checkpoint, how_to_go_on

if TYPE_CHECKING:
    from contrast.commands.resuming import Stored

__all__ = ["Request", "main", "pretrain", "read_request"]


def main(arguments: list[str]) -> int:
    """Run the command.

    Args:
        arguments: words after the subcommand.

    Returns:
        Exit code 0 if the run reached its end; other ends raise an exception.
    """
    pretrain(read_request(arguments))
    return 0


def pretrain(request: Request) -> RunFolder:
    """Start or resume a run as requested.

    Args:
        request: the parsed command line.

    Returns:
        The run folder.

    Raises:
        InputError: for any mistake in the configuration, the data or the run folder.
        RunStopped: if the run ended before its last step.
    """
    with only_training(), restored_environment():
        request = _with_auto_resolved(request)
        if request.resume is None:
            return _pretrain(request, None)
        folder = _with_checkpoint(request, request.resume)
        from contrast.commands.resuming import checkpoint_to_resume, locked

        if not request.trust:
            from contrast.commands.trust import require_no_links

            require_no_links(folder)  # before any file is written there
        if request.print_config or request.typed_help:
            return _pretrain(request, checkpoint_to_resume(folder, set_aside=False))
        with locked(folder):
            return _pretrain(request, checkpoint_to_resume(folder))


def _pretrain(request: Request, stored: Stored | None) -> RunFolder:
    composition = _compose(request, stored)
    _quieten()
    from contrast.commands import building as typed_side  # takes seconds: imports torch and Lightning
    from contrast.commands import starting
    from contrast.commands.completing import complete
    from contrast.commands.stored_defaults import with_chosen_stem

    config, received = _received(request, composition.config)
    parser = typed_side.run_parser()
    if request.typed_help:
        typed_side.print_class_help(parser, request.typed_help)
    _, plain = typed_side.resolve(parser, complete(config))
    plain, chosen = with_chosen_stem(plain)
    if stored is not None:
        from contrast.commands.resuming import with_stored_scale

        plain = with_stored_scale(plain, stored)
    if request.print_config:
        print(_as_yaml(plain), end="")
        return RunFolder(Path())
    starting.require_own_processes()
    starting.require_steps(plain)
    folder = _folder(request, plain)
    if stored is not None:
        from contrast.commands.resuming import require_same_batches, require_same_method

        # Checked before any note and before anything is built: building data and model would fail with a less direct
        # message.
        require_same_method(folder, stored, plain)
        require_same_batches(stored, plain)
    for note in (*composition.notes, *chosen):
        print(f"note    {note}", file=sys.stderr)
    if stored is None:
        _start(parser, plain, folder, request)
    else:
        _resume(parser, plain, composition.config, folder, stored, received, request.on_changed_data)
    return folder


def _received(request: Request, config: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Check the settings that come from a run folder against the allow list.

    Classes are only imported from the current folder if the user names some, because the current folder may be a
    received run folder.

    Returns:
        The checked configuration, and whether it was received, that is, read from a run folder without `--trust`.
    """
    from contrast.commands import building as typed_side
    from contrast.commands.trust import names_own_classes, note_online_logger, receive

    received = request.resume is not None and not request.trust
    given = compose(request.files, request.flags).config if received else {}
    if not received or names_own_classes(given):
        typed_side.import_from_here()
    if received:
        where = f"run folder {str(request.resume)!r}"
        config = receive(config, where, given)
        if "logger" not in given.get("trainer", {}):
            note_online_logger(config, where)
    return config, received


def _start(parser: Any, config: dict[str, Any], folder: RunFolder, request: Request) -> None:
    from contrast.commands.resuming import locked
    from contrast.commands.run import fit
    from contrast.commands.starting import begin, cleared_if_refused, marked_as_starting

    with locked(folder), cleared_if_refused(folder, request.again):
        begin(folder, _as_yaml(config))
        with marked_as_starting(folder):
            fit(parser, config, folder)


def _resume(
    parser: Any,
    config: dict[str, Any],
    given: dict[str, Any],
    folder: RunFolder,
    stored: Stored,
    received: bool,
    on_changed_data: bool,
) -> None:
    from contrast.callbacks.resumed import Resumption
    from contrast.commands.resuming import is_first_process, require_ahead
    from contrast.commands.run import fit
    from contrast.commands.starting import marked_as_starting

    changed = changed_settings(stored.config, config, given)
    end = require_ahead(folder, stored, config["trainer"])
    if is_first_process():
        for line in describe_changes(changed, stored.step):
            print(f"note    {line}", file=sys.stderr)
    text = _as_yaml(config)
    resumption = Resumption(
        step=stored.step,
        config=config,
        changed=changed,
        configuration=None if read_text(folder.config) == text else text,
        optimizers=tuple(stored.ours.get("optimizers", ())),
        groups=stored.groups,
    )
    with marked_as_starting(folder):
        fit(parser, config, folder, stored, resumption, received, on_changed_data)
    if end and is_first_process():
        print(f"note    {end}", file=sys.stderr)


def _with_auto_resolved(request: Request) -> Request:
    """Resolve `--resume auto`: resume the run if it has a checkpoint, else start it from the beginning.

    Raises:
        InputError: if a start would erase the records of a run that once had a checkpoint.
    """
    if request.resume != Path("auto"):
        return request
    if request.run is None:
        raise InputError("--resume auto needs --run FOLDER: give the folder of the run to resume or start")
    folder = RunFolder(request.run)
    if _has_checkpoint(folder):
        return dataclasses.replace(request, run=None, resume=request.run)
    if folder.config.is_file() and had_checkpoint(folder):
        raise InputError(_no_checkpoint(folder))
    return dataclasses.replace(request, resume=None, again=folder.config.is_file())


def _has_checkpoint(folder: RunFolder) -> bool:
    return folder.last_checkpoint.is_file() or folder.previous_checkpoint.is_file()


def _no_checkpoint(folder: RunFolder) -> str:
    records = ", and a start would erase its records" if had_checkpoint(folder) else ""
    return f"{str(folder.path)!r} has no checkpoint to resume from{records}: {how_to_go_on(folder)}"


def _with_checkpoint(request: Request, path: Path) -> RunFolder:
    folder = RunFolder.existing(path)
    if request.run is not None:
        raise InputError(f"--run {request.run} and --resume {path} exclude each other: give one")
    if not _has_checkpoint(folder):
        raise InputError(_no_checkpoint(folder))
    return folder


def _compose(request: Request, stored: Stored | None) -> Composition:
    if stored is not None and request.resume is not None:
        from contrast.commands.resuming import settings_to_resume

        return compose(request.files, request.flags, settings_to_resume(RunFolder(request.resume), stored))
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
    """Silence Lightning's messages about the machine, and its advice that does not apply here."""
    import lightning  # noqa: F401  # its import sets log levels; ours must come after

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for about in ("does not have many workers", "Trying to infer the `batch_size`", "LeafSpec"):
        warnings.filterwarnings("ignore", message=f".*{about}.*")
