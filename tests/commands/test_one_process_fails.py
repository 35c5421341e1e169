"""One of two processes fails: the run stops in one line with its exit code, however slowly its first process closes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.status import read_status
from tests.commands.running import SMALL

ROOT = Path(__file__).parents[2]


class FailAt(lightning.Callback):
    """What happens to one process at a step; told to stop, the first one closes more slowly than Lightning waits."""

    def __init__(self, what: str, step: int = 4) -> None:
        self.what, self.step = what, step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.step:
            getattr(self, self.what)(trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.what == "term" and trainer.is_global_zero:
            time.sleep(12)

    def nan(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:  # SimSiam's loss is of each process's own rows
            with torch.no_grad():
                next(pl_module.predictor.parameters()).fill_(float("nan"))

    def disk(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    def data(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            raise InputError("picture 7 is cut")

    def term(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            os.kill(os.getpid(), signal.SIGTERM)


NARROW = "{class_path: MLPHead, init_args: {hidden_width: 16, output_width: 8}}"
STATES = {1: "failed", 143: "stopped"}


@pytest.mark.parametrize(
    ("what", "code", "lines", "saved"),
    [
        ("nan", 1, ["the loss was nan at step 4; likely cause: the encoder output NaN"], 3),
        ("disk", 1, ["could not be written at step 4 (File too large); the last good checkpoint is"], 3),
        pytest.param(
            *("data", 1, ["picture 7 is cut", "another process of this run has ended: it printed the reason"], 3),
            marks=pytest.mark.slow,
        ),
        ("term", 143, ["stopped by SIGTERM at step 4, all of it saved"], 4),
    ],
)
def test_the_run_stops_in_one_line(what: str, code: int, lines: list[str], saved: int, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    words = [*SMALL, "--run", str(folder.path), "--checkpoints.every_n_steps", "1", "--data.batch_size", "16"]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    words += ["--model", "SimSiam", "--model.head", NARROW, "--model.predictor", NARROW]
    words += ["--model.backbone", "{class_path: ConvNet, init_args: {widths: [4, 8]}}"]
    words += ["--trainer.callbacks", f"[{{class_path: {__name__}.FailAt, init_args: {{what: {what}}}}}]"]
    command = [sys.executable, "-m", "contrast", "pretrain", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stderr
    said = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert len(said) == len(lines), done.stderr
    assert all(words in line for words, line in zip(lines, said, strict=True)), said
    assert "Traceback" not in done.stderr
    assert read_checkpoint(folder.last_checkpoint)["global_step"] == saved
    status = read_status(folder.status)
    assert status is not None
    assert status.state == ("running" if what == "disk" else STATES[code])  # no room for another word
