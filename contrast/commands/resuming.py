"""Resume a run: choice of the checkpoint, checks of the new settings, and a lock on the run folder."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrast.commands.configuration import read_yaml, short
from contrast.commands.stored_defaults import with_stored_defaults
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.files import remove_parts
from contrast.runs.history import changed_settings, settings_by_flag
from contrast.runs.next_command import new_run_command, resume_command

__all__ = [
    "Stored",
    "checkpoint_to_resume",
    "is_first_process",
    "locked",
    "require_ahead",
    "require_same_batches",
    "require_same_method",
    "settings_to_resume",
    "with_stored_scale",
]


def is_first_process() -> bool:
    """Whether this process is the one that the user started.

    A run's further processes are started with the same words. Only the first process writes the run folder.
    """
    return os.environ.get("LOCAL_RANK", "0") == "0"


@dataclass(frozen=True)
class Stored:
    """The checkpoint that a run resumes from.

    Attributes:
        path: path of the checkpoint.
        step: optimiser steps done.
        epochs: epochs begun, including a current one.
        within: whether the last of these epochs is incomplete.
        ours: this project's entry in the checkpoint, under "contrast".
        groups: for each optimiser, the names of the settings of its first parameter group.
    """

    path: Path
    step: int
    epochs: int
    within: bool
    ours: Mapping[str, Any]
    groups: Sequence[frozenset[str]]

    @property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration of the most recent steps."""
        return with_stored_defaults(self.ours["config"])


def checkpoint_to_resume(folder: RunFolder, set_aside: bool = True) -> Stored:
    """Read the last checkpoint; if it is damaged, read the previous one and print a note.

    Args:
        folder: the run folder.
        set_aside: whether to rename a damaged checkpoint to ``damaged.ckpt``. Otherwise the next write would replace
            the good previous checkpoint with the damaged one.

    Raises:
        InputError: if neither checkpoint can be read.
    """
    last, previous = folder.last_checkpoint, folder.previous_checkpoint
    try:
        return _stored(last)
    except InputError as error:
        try:
            if not previous.is_file():
                raise InputError(f"there is no {previous.name} either")
            stored = _stored(previous)
        except InputError as worse:
            reason = f"nor can the one before: {worse}" if previous.is_file() else str(worse)
            raise InputError(
                f"{error}; {reason}; start the same run under another name with: {new_run_command(folder)}"
            ) from worse
        print(
            f"note    {error}; resuming from the previous checkpoint, {previous.name}, at step {stored.step}",
            file=sys.stderr,
        )
        if set_aside and last.is_file() and is_first_process():
            os.replace(last, folder.checkpoints / "damaged.ckpt")
        return stored


def _stored(path: Path) -> Stored:
    content = read_checkpoint(path)
    ours = content["contrast"]
    try:
        progress = content.get("loops", {}).get("fit_loop", {}).get("epoch_loop.batch_progress", {})
        within = progress.get("current", {}).get("ready", 0) > 0 and not progress.get("is_last_batch", False)
        epochs = int(ours.get("epochs", content["epoch"])) + within
        optimizers = content.get("optimizer_states", [])
        groups = [frozenset(each["param_groups"][0]) for each in optimizers]
    except (LookupError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"checkpoint {str(path)!r} lacks state that a resume needs ({reason})") from error
    return Stored(path, int(content["global_step"]), epochs, within, ours, groups)


def settings_to_resume(folder: RunFolder, stored: Stored) -> dict[str, Any]:
    """The stored configuration that files and flags of a resume override: ``config.yaml``.

    Versions that wrote no "batch" entry into their checkpoints never updated config.yaml at a resume. For these, the
    last checkpoint has the current settings, and a note is printed if the two differ.

    Args:
        folder: the run folder.
        stored: the checkpoint that the run resumes from.
    """
    kept = with_stored_defaults(read_yaml(folder.config))
    if "batch" in stored.ours:
        return kept
    changed = changed_settings(kept, stored.config, stored.config)
    if changed:
        listed = ", ".join(f"{key} {_text(each.get('new'))}" for key, each in changed.items())
        print(
            f"note    {folder.config} is older than the last resume; the checkpoint's settings apply: {listed:.300}",
            file=sys.stderr,
        )
    return dict(stored.config)


def with_stored_scale(config: dict[str, Any], stored: Stored) -> dict[str, Any]:
    """Keep the mean and the std that a run has measured, where its command is typed again.

    Files that change the class of the data on the way, as overlays of the demo do, drop the arguments of the class
    before. Without this, the mean and the std would be null again, which reads as a change of the configuration.

    Args:
        config: the resolved configuration from now on.
        stored: the checkpoint that the run resumes from.

    Returns:
        The configuration, with the stored mean and std where it gives neither, for data of the same class and channels.
    """
    now, before = config.get("data"), stored.config.get("data")
    if not isinstance(now, dict) or not isinstance(before, Mapping):
        return config
    given, kept = now.get("init_args") or {}, before.get("init_args") or {}
    same = short(str(now.get("class_path"))) == short(str(before.get("class_path")))
    if not same or given.get("channels") != kept.get("channels"):
        return config
    scale = {name: kept[name] for name in ("mean", "std") if name in given and kept.get(name) is not None}
    if not scale or any(given.get(name) is not None for name in scale):
        return config
    return {**config, "data": {**now, "init_args": {**given, **scale}}}


def require_same_method(folder: RunFolder, stored: Stored, config: Mapping[str, Any]) -> None:
    """Refuse to resume with another method or optimiser than the checkpoint's.

    Args:
        folder: the run folder.
        stored: the checkpoint that the run resumes from.
        config: the resolved configuration from now on.

    Raises:
        InputError: one line with both names.
    """
    before, now = settings_by_flag(stored.config), settings_by_flag(config)
    for flag, what in (("model", "method"), ("model.optimizer", "optimiser")):
        was, would = before.get(flag), now.get(flag)
        if isinstance(was, str) and isinstance(would, str) and short(was) != short(would):
            raise InputError(
                f"{flag} {short(would)}: the checkpoint at step {stored.step} holds the state of {short(was)}, and "
                f"another {what} cannot use it: leave --{flag} out, or start a new run with: "
                f"{new_run_command(folder)}"
            )


def require_same_batches(stored: Stored, config: Mapping[str, Any], processes: int | None = None) -> None:
    """Refuse to resume with settings that would distribute the samples of an epoch differently than before.

    Positions within an epoch are counted in batches per process, and schedules are counted in steps.

    Args:
        stored: the checkpoint that the run resumes from.
        config: the resolved configuration from now on.
        processes: number of processes of this start; None if not known yet. With None, only the settings are compared.

    Raises:
        InputError: one line with both values.
    """
    before, now = _shared_out(stored.config), _shared_out(config)
    record = stored.ours.get("batch")
    record = record if isinstance(record, Mapping) else {}
    for flag, name in (("data.batch_size", "batch_size"), (_ACCUMULATED, _ACCUMULATED.rpartition(".")[2])):
        if isinstance(record.get(name), int) and record[name] > 0:
            before[flag] = record[name]
    before["trainer.devices"] = record.get("processes") or _processes(stored.config)
    now["trainer.devices"] = before["trainer.devices"] if processes is None else processes
    for flag, value in before.items():
        if value != now[flag] and not (flag == "trainer.devices" and value is None):
            was = f"{value} processes" if flag == "trainer.devices" else _text(value)
            would = f"{now[flag]}" if flag == "trainer.devices" else _text(now[flag])
            raise InputError(
                f"{flag}: the run was trained with {was} up to step {stored.step}, and {would} would change "
                f"the samples of each step: give --{flag} {_text(value)}"
            )


_ACCUMULATED = "trainer.accumulate_grad_batches"


def _shared_out(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine which samples a step sees; equivalent settings get equal values."""
    flat = settings_by_flag(config)
    limit, overfit = flat.get("trainer.limit_train_batches"), flat.get("trainer.overfit_batches")
    return {
        "data.batch_size": flat.get("data.batch_size"),
        _ACCUMULATED: flat.get(_ACCUMULATED) or 1,
        "data.limit": flat.get("data.limit"),
        "data.seed": flat.get("data.seed"),
        "trainer.limit_train_batches": 1.0 if limit is None else limit,
        "trainer.overfit_batches": overfit or 0.0,
    }


def _processes(config: Mapping[str, Any]) -> int | None:
    """Number of processes that a configuration starts; None if it depends on the machine."""
    trainer = config.get("trainer")
    trainer = trainer if isinstance(trainer, Mapping) else {}
    devices = trainer.get("devices")
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    return 1 if trainer.get("accelerator") == "cpu" and devices in ("auto", None) else None


def require_ahead(folder: RunFolder, stored: Stored, trainer: Mapping[str, Any]) -> str:
    """Refuse an end of the run before the step or epoch that it has already reached.

    Args:
        folder: the run folder.
        stored: the checkpoint that the run resumes from.
        trainer: the trainer section of the resolved configuration.

    Returns:
        A sentence if the run is already at its end, so that nothing is left to train; otherwise empty.

    Raises:
        InputError: if ``max_epochs`` or ``max_steps`` is below the number already trained.
    """
    ends = {"max_epochs": stored.epochs, "max_steps": stored.step}
    reached: list[str] = []
    for name, done in ends.items():
        end = trainer.get(name)
        if not isinstance(end, int) or end <= 0 or end > done:
            continue
        more = (f"--trainer.{name}", str(2 * done))
        if end < done:
            has = "begun" if name == "max_epochs" else "trained"
            raise InputError(
                f"trainer.{name} {end}: the run has already {has} {done} {name[4:]} (step {stored.step}): give more, "
                f"as in: {resume_command(folder, more)}"
            )
        if name == "max_steps" or not stored.within:
            reached += more
    if not reached:
        return ""
    return f"already finished at step {stored.step}; to train longer: {resume_command(folder, reached)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


@contextlib.contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Context manager: lock the run folder, so that no other process trains in it, and delete leftover temporary files.

    Args:
        folder: the run folder.

    Raises:
        InputError: if another process trains in the folder.
    """
    if not is_first_process():
        yield
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    # Never follow a symbolic link: a received run folder may contain one.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(folder.lock, "a", opener=lambda path, _: os.open(path, flags, 0o666)) as file:
        _lock(file.fileno(), folder)
        remove_parts((folder.path, folder.checkpoints, folder.pairs, folder.pictures))
        yield


def _lock(file: int, folder: RunFolder) -> None:
    """Lock the file with a POSIX record lock: forked loader workers do not inherit it, and it ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise InputError(
            f"another process is training in {str(folder.path)!r}: wait for it, stop it, or give another --run"
        ) from error
    except OSError:  # a file system without locks
        return
