"""Small runs for tests: the demo's data and net, a few steps."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import lightning

from contrast.cli import main
from contrast.run_folder import RunFolder
from contrast.runs.status import read_status, write_status

SMALL = ["--config", "configs/demo.yaml", "--config", "tests/commands/small.yaml"]


def pretrain(folder: Path, *arguments: object, small: bool = True) -> int:
    """`contrast pretrain` in this process, into `folder`; its exit code."""
    return main(["pretrain", *(SMALL if small else []), "--run", str(folder), *map(str, arguments)])


def as_killed_before_its_first_checkpoint(folder: RunFolder) -> None:
    """What a process that was killed then leaves: its checkpoints go, and its status has never known one."""
    for checkpoint in folder.checkpoints.iterdir():
        checkpoint.unlink()
    status = read_status(folder.status)
    assert status is not None
    write_status(folder.status, dataclasses.replace(status, state="running", checkpoint=False))


class StopAt(lightning.Callback):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
