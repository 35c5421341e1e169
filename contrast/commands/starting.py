"""Start of a run: choice of the folder, stored files, process environment, and checks of settings and input."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import socket
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
    "marked_as_starting",
    "require_monitored",
    "require_new",
    "require_own_processes",
    "require_port",
    "require_steps",
    "time_limit",
    "unknown_metric",
    "with_measured",
    "write_config",
]


_OFFERED = "train/loss, train/rate, and with labels online/knn_top1; metrics.csv of a run lists all"


def require_monitored(callbacks: Sequence[lightning.Callback], model: lightning.LightningModule) -> None:
    """Refuse a callback that monitors a metric that no run records.

    If the method or any callback is the user's own class, nothing is refused, because it may log more metrics.

    Args:
        callbacks: the user's callbacks.
        model: the method.

    Raises:
        InputError: one line with the callback, the metric's name and the available names.
    """
    if not all(type(each).__module__.partition(".")[0] in ("lightning", "contrast") for each in (*callbacks, model)):
        return
    for each in callbacks:
        name = getattr(each, "monitor", None)
        if isinstance(name, str) and "/" not in name:
            raise InputError(_unknown(type(each).__name__, name, ()))


def unknown_metric(error: Exception, known: Iterable[str], step: int) -> RunStopped | None:
    """Convert Lightning's error about an unknown monitored metric into the end of a run.

    Args:
        error: the exception that Lightning raised.
        known: names of the recorded metrics.
        step: the current optimiser step.

    Returns:
        The exception to raise; None for any other error.
    """
    match = re.search(r"conditioned on metric `([^`]+)`|monitor='([^']+)'\) could not find", str(error))
    if match is None:
        return None
    name = match[1] or match[2]
    return RunStopped(f"{_unknown('a callback', name, known)} (at step {step})")


def _unknown(callback: str, name: str, known: Iterable[str]) -> str:
    offered = ", ".join(sorted(known)) or _OFFERED
    return f"trainer.callbacks: {callback} monitors {name!r}, which is not recorded: give one of {offered}"


_CLAIMED = "CONTRAST_RUN"  # tells the run's further processes the run folder


def require_own_processes() -> None:
    """Refuse to run as one of several processes that srun or torchrun has started.

    Raises:
        InputError: if srun or torchrun has started this process as one of several.
    """
    own = "contrast starts the processes of a run itself (--trainer.devices)"
    # srun sets the number of tasks of this step. The job's number of tasks does not tell how many were started.
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdecimal() and int(tasks) > 1:
        raise InputError(f"srun has started {tasks} tasks: {own}; start one, with srun --ntasks=1")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(f"torchrun has started this process: {own}; start it without torchrun")


def require_port() -> None:
    """Check that MASTER_ADDR and MASTER_PORT in the environment let the processes of a run connect.

    Raises:
        InputError: if MASTER_PORT is not a free port, or MASTER_ADDR belongs to another machine.
    """
    if not is_first_process():  # the first process already listens at the port
        return
    address, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("MASTER_PORT", "0")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 2**16):
        raise InputError(f"MASTER_PORT={port} in the environment is not a port: unset it, or give 1024 to 65535")
    try:
        family = socket.getaddrinfo(address, int(port), type=socket.SOCK_STREAM)[0][0]
        socket.create_server((address, int(port)), family=family).close()
    except OSError as error:
        raise InputError(
            f"the processes of a run cannot connect at MASTER_ADDR={address}, MASTER_PORT={port} of the environment "
            f"({error.strerror}): unset both for a free port of this machine"
        ) from error


def claimed(runs: Path, name: str) -> Path:
    """Create a new folder with this name, or with a number appended; no other process can claim the same folder.

    Args:
        runs: the parent folder.
        name: the preferred name.

    Returns:
        The folder; in a further process of the run, the folder that the first process claimed.
    """
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
def marked_as_starting(folder: RunFolder) -> Iterator[None]:
    """Context manager: the run's status is `starting` while the run is built.

    If training does not begin, the previous status is restored.

    Args:
        folder: the run folder.
    """
    if not is_first_process():
        yield
        return
    before = read_status(folder.status)
    now = utc_now()
    status = Status("starting", 0, None, 0, None, now, now, socket.gethostname(), os.getpid())
    if before is not None:  # a resumed run
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
    """Refuse trainer settings that train nothing, or that Lightning would turn into its own trial run.

    Args:
        config: the resolved configuration.

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
        raise InputError(f"trainer.accumulate_grad_batches {added} is below 1: give the number of batches per step")
    if trainer.get("fast_dev_run"):
        raise InputError(
            f"trainer.fast_dev_run {trainer['fast_dev_run']} writes no run folder: for a trial give "
            "--trainer.max_steps 1"
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
    """Parse ``trainer.max_time`` into seconds.

    Args:
        given: text as DD:HH:MM:SS, or a mapping with hours, minutes and so on.

    Raises:
        InputError: if the value has another form.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Timer

    try:
        seconds = Timer(given).time_remaining()
    except (MisconfigurationException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"trainer.max_time {given!r}: give days, hours, minutes, seconds as 00:12:00:00") from error
    return 0.0 if seconds is None else seconds


def require_new(folder: RunFolder) -> None:
    """Refuse a run folder that contains anything except leftovers of a killed start.

    Args:
        folder: the run folder.

    Raises:
        InputError: if the folder is in use.
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
    """Write the configuration, and delete the records of a run that was killed here before its first checkpoint.

    Args:
        folder: the run folder.
        config: the resolved configuration as YAML text.
    """
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
    """Write the configuration again, now that statistics of the training set are known."""
    if is_first_process():
        with whole_file(folder.config) as part:
            part.write_text(yaml.safe_dump(config, sort_keys=False))


def with_measured(config: Config, data: TrainingData) -> Config:
    """Add the mean and standard deviation measured on the training set to the configuration, where none is given.

    Args:
        config: the resolved configuration of a new run.
        data: the data built from it.
    """
    measured = data.measured()
    if not measured:
        return config
    section = config["data"]
    return {**config, "data": {**section, "init_args": {**section["init_args"], **measured}}}


def look_at_input(data: TrainingData, folder: RunFolder) -> list[str]:
    """Measure statistics of the input samples and write them to ``input.json``.

    Args:
        data: the training data.
        folder: the run folder.

    Returns:
        Problems of the input, one line each.
    """
    statistics = data.input_statistics()
    with whole_file(folder.input) as part:
        part.write_text(json.dumps(statistics) + "\n")
    found = [f"{finding.rule}: {finding.seen} {finding.fix}" for finding in input_findings(statistics)]
    unread = (statistics["test"] or {}).get("error")
    return [*found, *([f"the test set was not examined: {unread}"] if unread else [])]


@contextlib.contextmanager
def cleared_if_refused(folder: RunFolder, again: bool) -> Iterator[None]:
    """Context manager: delete the run folder if the run fails before there is anything to keep.

    The next try can then use the same folder name.

    Args:
        folder: the run folder.
        again: whether the folder existed before; if so, it is kept.
    """
    try:
        yield
    except BaseException as error:  # includes Ctrl-C; raised again below
        failed = isinstance(error, RunStopped) and error.exit_code == 1  # failed in training: keep the records
        kept = failed or folder.metrics.exists() or folder.last_checkpoint.exists()
        if is_first_process() and not again and not kept:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
