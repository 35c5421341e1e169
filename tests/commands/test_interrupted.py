"""Ctrl-C and SIGTERM outside a step, and a second Ctrl-C: one line, the documented exit code, nothing in the way."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning
import pytest

import contrast.evaluation  # noqa: F401  # for `sys.modules`
from contrast.cli import main
from contrast.commands import run as run_module
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.status import read_status
from tests.commands.running import pretrain

ROOT = Path(__file__).parents[2]
CODES = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "stopped by SIGTERM")}


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Any:
    """In the checkout; and whoever had the signals has them again."""
    monkeypatch.chdir(ROOT)
    given = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what runs beside it ignore Ctrl-C
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, given)
    assert after == before


class Interrupt(lightning.Callback):
    """Sends this process a signal, in `setup` or in a step; there as often as is said."""

    def __init__(self, name: str, step: int = 0, times: int = 1) -> None:
        self.number, self.step, self.times = signal.Signals[name], step, times

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if not self.step:
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
                time.sleep(0.05)  # else the system may make one of two


def interrupting(**arguments: object) -> list[object]:
    given = ", ".join(f"{name}: {value}" for name, value in arguments.items())
    return ["--trainer.callbacks", f"[{{class_path: {__name__}.Interrupt, init_args: {{{given}}}}}]"]


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    return line


@pytest.mark.parametrize("name", CODES)
def test_in_setup(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, how = CODES[name]
    assert pretrain(tmp_path / "run", *interrupting(name=name)) == code
    assert f"error: {how} at step 0, at once; no checkpoint had been written yet" in the_line(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", CODES)
def test_while_everything_is_built(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, how = CODES[name]
    monkeypatch.setattr(run_module, "build", lambda *_: os.kill(os.getpid(), signal.Signals[name]))
    assert pretrain(tmp_path / "run") == code
    assert the_line(capsys) == f"contrast pretrain: error: {how}"
    assert not (tmp_path / "run").exists()


def test_twice_in_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, *interrupting(name="SIGINT", step=5, times=2)) == 130
    line = the_line(capsys)
    assert "interrupted at step 4, at once; go on from the last checkpoint with" in line
    assert f"contrast pretrain --resume {folder.path}" in line
    assert read_checkpoint(folder.last_checkpoint)["global_step"] == 3
    status = read_status(folder.status)
    assert status is not None
    assert status.state == "stopped"
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.callbacks", "null"]) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_two_of_one_request_are_one(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`timeout` signals the command and then its group: the step is finished and saved all the same."""
    folder = RunFolder(tmp_path / "run")
    number = signal.Signals[name]
    assert pretrain(folder.path, *interrupting(name=name, step=5, times=2)) == 128 + number
    assert f"stopped by {name} at step 5, all of it saved" in the_line(capsys)
    assert read_checkpoint(folder.last_checkpoint)["global_step"] == 5


def test_a_command_that_writes_leaves_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ended it at once before, with its part of a file left."""
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, "--trainer.max_steps", 1) == 0
    capsys.readouterr()
    writer = sys.modules["contrast.evaluation.encoder"]  # the package has the function under this name
    monkeypatch.setattr(writer, "write_json", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["export", str(folder.path)]) == 143
    assert the_line(capsys) == "contrast export: error: stopped by SIGTERM"
    assert not [*folder.export.iterdir()]
