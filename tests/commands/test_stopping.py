"""Runs that are asked to stop, killed or out of disk: what is kept, what is said, and how they go on."""

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

from contrast.cli import main
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.status import read_status
from tests.commands.running import SMALL, as_killed_before_its_first_checkpoint, pretrain
from tests.commands.test_pretrain import equal

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


class SignalAt(lightning.Callback):
    """Sends this process a signal while a step is under way."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def signalled(step: int, number: int) -> list[object]:
    callback = f"{__name__}.SignalAt, init_args: {{step: {step}, number: {int(number)}}}"
    return ["--trainer.callbacks", f"[{{class_path: {callback}}}]"]


NO_MORE = ["--trainer.callbacks", "null"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The small run to its end, to be read alone."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        assert pretrain(folder.path) == 0
    return folder


@pytest.mark.parametrize(("name", "step"), [("SIGINT", 2), ("SIGINT", 3), ("SIGTERM", 3), ("SIGTERM", 4)])
def test_a_signal_lets_the_step_finish_saves_it_and_says_how_to_go_on(
    name: str, step: int, whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are three steps an epoch."""
    number = signal.Signals[name]
    before = signal.getsignal(number)
    cut = RunFolder(tmp_path / "cut")
    assert pretrain(cut.path, *signalled(step, number)) == 128 + number
    assert signal.getsignal(number) == before
    said = capsys.readouterr().err.splitlines()[-1]
    by = "interrupted" if name == "SIGINT" else "stopped by SIGTERM"
    assert f"{by} at step {step}, all of it saved" in said
    assert f"contrast pretrain --resume {cut.path}" in said
    assert read_checkpoint(cut.last_checkpoint)["global_step"] == step
    status = read_status(cut.status)
    assert status is not None
    assert status.state == "stopped"
    assert main(["pretrain", "--resume", str(cut.path), *NO_MORE]) == 0
    assert equal(whole, cut)
    kept = ("online/knn_top1", "train/loss")
    rows = [[{n: row.get(n) for n in kept} for row in read_rows(run.metrics)] for run in (whole, cut)]
    assert rows[0] == rows[1]  # what is measured at an epoch's end too


def test_a_signal_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    assert pretrain(tmp_path / "run", *signalled(6, signal.SIGTERM)) == 0


def test_a_step_of_several_batches_is_finished(tmp_path: Path) -> None:
    several = ["--trainer.accumulate_grad_batches", "3", "--checkpoints.every_n_steps", "1"]
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    assert pretrain(whole.path, *several, "--data.batch_size", 8) == 0
    assert pretrain(cut.path, *several, "--data.batch_size", 8, *signalled(2, signal.SIGTERM)) == 143
    assert read_checkpoint(cut.last_checkpoint)["global_step"] == 2
    assert main(["pretrain", "--resume", str(cut.path), *NO_MORE]) == 0
    assert equal(whole, cut)


def test_slurms_warning_saves_and_has_the_job_queued_again(
    whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = tmp_path / "asked"
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    cut = RunFolder(tmp_path / "cut")
    again = ["--run", str(cut.path), "--resume", "auto"]
    assert main(["pretrain", *SMALL, *again, *map(str, signalled(2, signal.SIGUSR1))]) == 138
    assert "SLURM will start job 417 again" in capsys.readouterr().err.splitlines()[-1]
    assert asked.read_text() == "requeue 417\n"
    assert main(["pretrain", *SMALL, *again, *NO_MORE]) == 0
    assert equal(whole, cut)


@pytest.mark.parametrize("step", [1, 2])
def test_slurm_that_cannot_be_asked_is_told_of(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning before the first step is done does not end the run at once, as another signal does."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "10")
    assert pretrain(tmp_path / "run", *signalled(step, signal.SIGUSR1)) == 138
    said = capsys.readouterr().err
    assert f"stopped by SIGUSR1 at step {step}, all of it saved" in said
    assert "SLURM could not be asked to start job 7_3 again" in said


def test_auto_starts_goes_on_and_starts_again_what_has_no_checkpoint(
    whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    auto = ["pretrain", *SMALL, "--run", str(run.path), "--resume", "auto"]
    assert main(auto) == 0
    assert equal(whole, run)
    assert main(auto) == 0  # there is nothing left to do
    as_killed_before_its_first_checkpoint(run)
    assert main(auto) == 0
    assert equal(whole, run)
    assert [row["step"] for row in read_rows(run.scores)[1:]] == [1, 2, 3, 4, 5, 6]
    capsys.readouterr()
    assert main(["pretrain", *SMALL, "--resume", "auto"]) == 2
    assert "--resume auto needs --run FOLDER" in capsys.readouterr().err


def test_auto_does_not_touch_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "a.txt").write_text("precious")
    assert main(["pretrain", *SMALL, "--run", str(folder), "--resume", "auto"]) == 2
    assert "is in use" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["a.txt"]


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    often = ["--checkpoints.every_n_steps", "1"]
    assert pretrain(whole.path, *often) == 0
    assert pretrain(cut.path, *often, *signalled(4, signal.SIGINT)) == 130
    damaged = bytearray(cut.last_checkpoint.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # a single bit
    cut.last_checkpoint.write_bytes(damaged)
    capsys.readouterr()
    assert main(["pretrain", "--resume", str(cut.path), *NO_MORE]) == 0
    said = capsys.readouterr().err
    assert "its checksum does not match" in said
    assert "resuming from the previous checkpoint, previous.ckpt, at step 3" in said
    assert equal(whole, cut)
    assert (cut.checkpoints / "damaged.ckpt").read_bytes() == bytes(damaged)


def test_a_run_that_was_killed_when_all_was_trained_writes_its_table(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path) == 0
    table = folder.metrics_table.read_bytes()
    folder.metrics_table.unlink()
    assert main(["pretrain", "--resume", str(folder.path), *NO_MORE]) == 0
    assert folder.metrics_table.read_bytes() == table


def test_a_folder_that_a_process_trains_in_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, "--trainer.max_epochs", "5000"]
    process = subprocess.Popen([*command, "--run", folder.path], stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        deadline = time.monotonic() + 120
        while not folder.last_checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert main(["pretrain", "--resume", str(folder.path)]) == 2
        assert "another process is training in" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()
    step = read_checkpoint(folder.last_checkpoint)["global_step"]
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.max_steps", str(step + 1)]) == 0


TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "16", "--trainer.max_epochs", "10"]


def start_two(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *TWO, "--run", str(folder), "--resume", "auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two processes to its end."""
    folder = RunFolder(tmp_path_factory.mktemp("two") / "whole")
    process = start_two(folder.path, "--checkpoints.every_n_steps", "2")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return folder


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_two_processes_stop_together_and_go_on(name: str, two_processes: RunFolder, tmp_path: Path) -> None:
    cut = RunFolder(tmp_path / "cut")
    process = start_two(cut.path, "--checkpoints.every_n_steps", "2")
    deadline = time.monotonic() + 180
    while not cut.last_checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=120)
    step = read_checkpoint(cut.last_checkpoint)["global_step"]
    if name == "SIGTERM":
        assert process.returncode == 143, said
        assert f"stopped by SIGTERM at step {step}, all of it saved" in said
        assert "Traceback" not in said
    assert 0 < step < 30
    process = start_two(cut.path, "--checkpoints.every_n_steps", "2")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert equal(two_processes, cut)


def test_a_full_disk_stops_the_run_in_one_line_with_the_last_checkpoint_whole(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the queue's checkpoint no longer fits once it is reached."""
    folder = RunFolder(tmp_path / "run")
    words = [*SMALL, "--run", str(folder.path), "--trainer.max_epochs", "4", "--checkpoints.every_n_steps", "1"]
    code = (
        "import resource, signal, sys, lightning\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from contrast.callbacks import Checkpoints\n"
        "save = Checkpoints.on_train_batch_end\n"
        "def limited(self, trainer, *rest):\n"
        "    if trainer.global_step == 8:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "    save(self, trainer, *rest)\n"
        "Checkpoints.on_train_batch_end = limited\n"
        "from contrast.cli import main\n"
        "sys.exit(main(['pretrain', *sys.argv[1:]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-1]
    assert "could not be written at step 8 (File too large)" in said
    assert f"the last good checkpoint is {folder.last_checkpoint}" in said
    assert read_checkpoint(folder.last_checkpoint)["global_step"] == 7
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert main(["pretrain", "--resume", str(folder.path)]) == 0
    whole = RunFolder(tmp_path / "whole")
    assert pretrain(whole.path, *words[4:][2:]) == 0
    assert equal(whole, folder)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
