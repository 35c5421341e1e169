"""Small runs for tests: the demo's data and net, a few steps."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning

from contrast.cli import main

SMALL = ["--config", "configs/demo.yaml", "--config", "tests/commands/small.yaml"]


def pretrain(folder: Path, *arguments: object, small: bool = True) -> int:
    """`contrast pretrain` in this process, into `folder`; its exit code."""
    return main(["pretrain", *(SMALL if small else []), "--run", str(folder), *map(str, arguments)])


class StopAt(lightning.Callback):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
