"""Start of a run: folder name, stored files, environment, checks of settings and input."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import yaml

from contrast.commands.configuration import Config
from contrast.commands.resuming import is_first_process
from contrast.data import TrainingData
from contrast.doctor.data_rules import input_findings
from contrast.errors import InputError, RunStopped
from contrast.run_folder import RunFolder
from contrast.runs.files import is_part, whole_file
from contrast.runs.next_command import how_to_go_on
from contrast.runs.status import Status, read_status, utc_now, write_status

__all__ = [
    "begin",
    "claimed",
    "cleared_if_refused",
    "look_at_input",
    "only_training",
    "require_monitored",
    "require_new",
    "require_own_processes",
    "require_port",
    "require_steps",
    "restored_environment",
    "said_to_start",
    "time_limit",
    "unknown_metric",
    "usable_streams",
    "with_measured",
    "write_config",
]

_OURS = ("PL_", "WANDB_", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "CONTRAST_RUN")
"""How names of variables begin that Lightning, W&B and contrast set for one run."""

_TRAINING = threading.Lock()


@contextlib.contextmanager
def restored_environment() -> Iterator[None]:
    """On leaving, the variables that a run sets for its further processes are as they were."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(_OURS) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def only_training() -> Iterator[None]:
    """While this lasts no other training starts in this process.

    Two threads would share torch's random generator, which each step seeds, and signals, the environment and W&B's run
    are the process's: neither run could be repeated.

    Raises:
        InputError: where one is under way.
    """
    if not _TRAINING.acquire(blocking=False):
        raise InputError(
            "another training is under way in this process, and its threads share one random generator: start this one "
            "as a process of its own, or after the other"
        )
    try:
        yield
    finally:
        _TRAINING.release()


def usable_streams() -> None:
    """Give the process standard streams where it was started without, as by ``2>&-``.

    Python has None for them, at which every writer fails, and the system gives their numbers to the next files that are
    opened: a library's message would be written into a checkpoint. What a stream's encoding lacks is escaped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="backslashreplace")


_OFFERED = "train/loss, train/rate, and with labels online/knn_top1; metrics.csv of a run lists all"


def require_monitored(callbacks: Sequence[lightning.Callback], model: lightning.LightningModule) -> None:
    """Refuse a callback that monitors what no run has; a user's own method or callback may log more.

    Raises:
        InputError: one line with the callback, the name and names that there are.
    """
    if not all(type(each).__module__.partition(".")[0] in ("lightning", "contrast") for each in (*callbacks, model)):
        return
    for each in callbacks:
        name = getattr(each, "monitor", None)
        if isinstance(name, str) and "/" not in name:
            raise InputError(_unknown(type(each).__name__, name, ()))


def unknown_metric(error: Exception, known: Iterable[str], step: int) -> RunStopped | None:
    """A run's end where Lightning found no metric of the name that a callback monitors; None for any other error."""
    said = re.search(r"conditioned on metric `([^`]+)`|monitor='([^']+)'\) could not find", str(error))
    if said is None:
        return None
    name = said[1] or said[2]
    return RunStopped(f"{_unknown('a callback', name, known)} (at step {step})")


def _unknown(callback: str, name: str, known: Iterable[str]) -> str:
    offered = ", ".join(sorted(known)) or _OFFERED
    return f"trainer.callbacks: {callback} monitors {name!r}, which is not recorded: give one of {offered}"


_CLAIMED = "CONTRAST_RUN"  # by which further processes of a run, which have the same words, learn its folder


def require_own_processes() -> None:
    """Refuse to be one of several processes that somebody else has started.

    Raises:
        InputError: where srun or torchrun has.
    """
    own = "contrast starts the processes of a run itself, as many as --trainer.devices says"
    # The step's number, which srun tells; a job's number of tasks says nothing of how many were started.
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdecimal() and int(tasks) > 1:
        raise InputError(f"srun has started {tasks} tasks: {own}; start one, with srun --ntasks=1")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(f"torchrun has started this process: {own}; start it without torchrun")


def require_port() -> None:
    """Refuse an address of the environment at which a run of several processes cannot meet.

    Raises:
        InputError: for a MASTER_PORT that is not a free port, and a MASTER_ADDR of another machine.
    """
    if not is_first_process():  # the first one listens there by then
        return
    address, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("MASTER_PORT", "0")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 2**16):
        raise InputError(f"MASTER_PORT={port} in the environment is not a port: unset it, or give 1024 to 65535")
    try:
        family = socket.getaddrinfo(address, int(port), type=socket.SOCK_STREAM)[0][0]
        socket.create_server((address, int(port)), family=family).close()
    except OSError as error:
        raise InputError(
            f"the processes of a run cannot meet at MASTER_ADDR={address}, MASTER_PORT={port} of the environment "
            f"({error.strerror}): unset both for a free port of this machine"
        ) from error


def claimed(runs: Path, name: str) -> Path:
    """A folder of this name, or with a number behind it, that this process has made and no other has."""
    if not is_first_process() and _CLAIMED in os.environ:
        return Path(os.environ[_CLAIMED])
    runs.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            os.environ[_CLAIMED] = str(path)
            return path
    raise AssertionError("there is always another number")


@contextlib.contextmanager
def said_to_start(folder: RunFolder) -> Iterator[None]:
    """While a run is built its status is `starting`; where it does not come to train, what it was before."""
    if not is_first_process():
        yield
        return
    before = read_status(folder.status)
    now = utc_now()
    status = Status("starting", 0, None, 0, None, now, now, socket.gethostname(), os.getpid())
    if before is not None:  # a run that goes on
        status = dataclasses.replace(
            status, step=before.step, steps=before.steps, epoch=before.epoch, epochs=before.epochs
        )
    write_status(folder.status, status)
    try:
        yield
    finally:
        left = read_status(folder.status)
        if left is not None and left.state == "starting":
            with contextlib.suppress(OSError):
                if before is None:
                    folder.status.unlink(missing_ok=True)
                else:
                    write_status(folder.status, before)


def require_steps(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that trains nothing, or that Lightning would cut to a trial of its own.

    Raises:
        InputError: one line that names the setting.
    """
    trainer = config["trainer"]
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        value = trainer.get(name)
        if isinstance(value, int | float) and value == 0:
            raise InputError(f"trainer.{name} {value} trains nothing: give a number above 0, or leave it out")
    added = trainer.get("accumulate_grad_batches")
    if isinstance(added, int) and added < 1:
        raise InputError(f"trainer.accumulate_grad_batches {added} is below 1: give how many batches make a step")
    if trainer.get("fast_dev_run"):
        raise InputError(
            f"trainer.fast_dev_run {trainer['fast_dev_run']} leaves no run: for a trial give --trainer.max_steps 1"
        )
    clip = trainer.get("gradient_clip_val")
    if clip is not None and not clip >= 0:
        raise InputError(f"trainer.gradient_clip_val {clip} clips nothing: give a number above 0, or leave it out")
    for unit in ("epochs", "steps"):
        fewest, most = trainer.get(f"min_{unit}"), trainer.get(f"max_{unit}")
        if fewest is not None and most is not None and 0 < most < fewest:
            raise InputError(
                f"trainer.min_{unit} {fewest} is more than trainer.max_{unit} {most}: give at most {most}, or leave "
                f"min_{unit} out"
            )
    if trainer.get("max_time") is not None and time_limit(trainer["max_time"]) <= 0:
        raise InputError(
            f"trainer.max_time {trainer['max_time']} trains nothing: give more, as in 00:12:00:00 for 12 hours"
        )


def time_limit(given: Any) -> float:
    """Seconds of ``trainer.max_time``, which is DD:HH:MM:SS, or hours, minutes and so on by name.

    Raises:
        InputError: where it is not one of these.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Timer

    try:
        seconds = Timer(given).time_remaining()
    except (MisconfigurationException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"trainer.max_time {given!r}: give days, hours, minutes, seconds as 00:12:00:00") from error
    return 0.0 if seconds is None else seconds


def require_new(folder: RunFolder) -> None:
    """Refuse a folder in which anything is but what a start leaves that was killed.

    Raises:
        InputError: where something is.
    """
    path = folder.path
    if not is_first_process() or not path.exists():
        return
    if not path.is_dir() or not all(_of_a_start(each, folder) for each in path.iterdir()):
        how = f", or {how_to_go_on(folder)}" if folder.config.is_file() else ""
        raise InputError(f"run folder {str(path)!r} is in use: give another name with --run{how}")


def _of_a_start(path: Path, folder: RunFolder) -> bool:
    if path == folder.checkpoints:
        return path.is_dir() and not any(path.iterdir())
    return path.is_file() and (path == folder.lock or is_part(path))


def begin(folder: RunFolder, config: str) -> None:
    """Write the configuration, and take away what a run recorded that was killed here before its first checkpoint."""
    if not is_first_process():
        return
    for file in (*folder.records, folder.history, folder.metrics_table, folder.status, folder.input, folder.inactive):
        file.unlink(missing_ok=True)
    for made in (folder.pairs, folder.pictures):
        if made.is_dir() and not made.is_symlink():
            shutil.rmtree(made)
    with whole_file(folder.config) as part:
        part.write_text(config)


def write_config(folder: RunFolder, config: Config) -> None:
    """Write the configuration as it is now that the training set has been looked at."""
    if is_first_process():
        with whole_file(folder.config) as part:
            part.write_text(yaml.safe_dump(config, sort_keys=False))


def with_measured(config: Config, data: TrainingData) -> Config:
    """The configuration with the mean and the deviation that were measured on the training set, where none is given.

    Args:
        config: the resolved configuration of a new run.
        data: that were built from it.
    """
    measured = data.measured()
    if not measured:
        return config
    section = config["data"]
    return {**config, "data": {**section, "init_args": {**section["init_args"], **measured}}}


def look_at_input(data: TrainingData, folder: RunFolder) -> list[str]:
    """Write ``input.json``; what is wrong with the input, a line each."""
    statistics = data.input_statistics()
    with whole_file(folder.input) as part:
        part.write_text(json.dumps(statistics) + "\n")
    found = [f"{finding.rule}: {finding.seen} {finding.mend}" for finding in input_findings(statistics)]
    unread = (statistics["test"] or {}).get("error")
    return [*found, *([f"the test set was not looked at: {unread}"] if unread else [])]


@contextlib.contextmanager
def cleared_if_refused(folder: RunFolder, again: bool) -> Iterator[None]:
    """Refused or interrupted before there is anything to keep, a run leaves nothing in the way of the next try.

    Args:
        folder: the run folder.
        again: whether it was there before, and stays.
    """
    try:
        yield
    except BaseException as error:  # a Ctrl-C too; it goes on its way below
        failed = isinstance(error, RunStopped) and error.exit_code == 1  # on its way: what it says is kept
        kept = failed or folder.metrics.exists() or folder.last_checkpoint.exists()
        if is_first_process() and not again and not kept:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
