"""The first files of a run: where it may start, what is there when it does, and what is left where it does not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from contrast.commands.configuration import Config
from contrast.commands.resuming import is_first_process
from contrast.data import TrainingData
from contrast.doctor.input import input_findings
from contrast.errors import InputError, RunStopped
from contrast.run_folder import RunFolder
from contrast.whole_file import is_part, whole_file

__all__ = [
    "begin",
    "cleared_if_refused",
    "look_at_input",
    "require_new",
    "require_own_processes",
    "with_measured",
    "write_config",
]


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


def require_new(folder: RunFolder) -> None:
    """Refuse a folder in which anything is but what a start leaves that was killed.

    Raises:
        InputError: where something is.
    """
    path = folder.path
    if not is_first_process() or not path.exists():
        return
    if not path.is_dir() or not all(_of_a_start(each, folder) for each in path.iterdir()):
        raise InputError(
            f"run folder {str(path)!r} is in use: go on with it by --resume {path}, or give another name with --run"
        )


def _of_a_start(path: Path, folder: RunFolder) -> bool:
    if path == folder.checkpoints:
        return path.is_dir() and not any(path.iterdir())
    return path.is_file() and (path == folder.lock or is_part(path))


def begin(folder: RunFolder, config: str) -> None:
    """Write the configuration, and take away what a run recorded that was killed here before its first checkpoint."""
    if not is_first_process():
        return
    for file in (*folder.records, folder.metrics_table, folder.status, folder.input, folder.inactive):
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
