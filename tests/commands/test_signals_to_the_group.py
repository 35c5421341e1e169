"""Signals to a whole process group, dead workers and dead main processes: one line, saved, and no orphan."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
from PIL import Image
from torch.utils.data import Dataset

from contrast.cli import main
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.status import read_status
from contrast.stop_signals import leave_signals_to_the_parent, stop_signals_blocked
from tests.commands.running import SMALL

ROOT = Path(__file__).parents[2]
LONG = ["--trainer.max_epochs", "4000", "--checkpoints.every_n_steps", "1", "--online_knn.every_n_epochs", "0"]
WORKERS = ["--data.workers", "1"]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu", "--data.batch_size", "16"]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A run of its own process group."""
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *LONG, *words, "--run", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def until(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def members(group: int) -> list[int]:
    """Processes of a group that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of = (path / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found.append(int(path.name))
    return found


def workers(main_process: int) -> list[int]:
    children = Path(f"/proc/{main_process}/task/{main_process}/children").read_text().split()
    return [int(child) for child in children if b"python" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, WORKERS) for name in ("SIGTERM", "SIGHUP", "SIGINT")),
        ("SIGTERM", [*TWO, *WORKERS]),
        *(pytest.param(name, [*TWO, *WORKERS], marks=pytest.mark.slow) for name in ("SIGHUP", "SIGINT")),
    ],
)
def test_a_signal_to_the_group_saves_and_leaves_nobody(name: str, words: list[str], tmp_path: Path) -> None:
    number = signal.Signals[name]
    folder = RunFolder(tmp_path / "run")
    process = start(folder.path, *words)
    until(folder.last_checkpoint.exists)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    by = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    (line,) = [line for line in said.splitlines() if ": error: " in line]
    step = read_checkpoint(folder.last_checkpoint)["global_step"]
    assert f"{by} at step {step}, all of it saved" in line
    assert "Traceback" not in said
    until(lambda: not members(process.pid), 20)
    status = read_status(folder.status)
    assert status is not None
    assert status.state == "stopped"


def test_timeout_ends_a_run_with_workers_properly(tmp_path: Path) -> None:
    """As reported: it signals its child and then the group, so that two SIGTERM come in a moment."""
    folder = RunFolder(tmp_path / "run")
    run = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *LONG, *WORKERS, "--run", str(folder.path)]
    process = subprocess.Popen([shutil.which("timeout") or "timeout", "200", *run], stderr=subprocess.PIPE, text=True)
    until(folder.last_checkpoint.exists)
    process.send_signal(signal.SIGTERM)  # which it passes on as it does at its own end
    _, said = process.communicate(timeout=120)
    assert "stopped by SIGTERM at step" in said.splitlines()[-1]
    assert "all of it saved" in said.splitlines()[-1]
    assert "Traceback" not in said
    resumed = ["pretrain", "--resume", str(folder.path), "--trainer.max_epochs", "1", "--data.workers", "0"]
    assert main(resumed) in (0, 2)  # 2 where it was past the first epoch already


def test_a_worker_that_is_killed_is_one_line_with_the_likely_cause(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    process = start(folder.path, *WORKERS)
    until(folder.last_checkpoint.exists)

    def ended() -> bool:
        """Kill each epoch's worker: one that has handed out its last batch is not missed."""
        for worker in workers(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        return process.poll() is not None

    until(ended)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    (line,) = [line for line in said.splitlines() if ": error: " in line]
    assert "a loader worker was killed" in line
    assert "most likely as memory ran out: give fewer data.workers" in line
    assert f"contrast pretrain --resume {folder.path}" in line
    assert "Traceback" not in said
    assert read_checkpoint(folder.last_checkpoint)["global_step"] > 0
    status = read_status(folder.status)
    assert status is not None
    assert status.state == "failed"


@pytest.mark.parametrize("words", [WORKERS, [*TWO, *WORKERS]], ids=["one process", "two processes"])
def test_a_main_process_that_is_killed_leaves_no_orphan(words: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    process = start(folder.path, *words)
    until(folder.last_checkpoint.exists)
    process.kill()
    process.communicate(timeout=60)  # until nobody holds the other end of its standard error
    until(lambda: not members(process.pid), 30)


def waiting(begun: Any) -> None:
    """A loader's worker that has nothing to do."""
    leave_signals_to_the_parent()
    begun.set()
    time.sleep(600)


@pytest.mark.skipif(not hasattr(signal, "sigtimedwait"), reason="the system does not tell who sent a signal")
def test_a_worker_ends_at_sigterm_from_its_parent_only() -> None:
    """The step that is under way when the whole group is signalled still needs its batches."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()
    worker = context.Process(target=waiting, args=(begun,), daemon=True)
    with stop_signals_blocked():
        worker.start()
    assert begun.wait(60)
    for name in ("TERM", "HUP", "INT", "USR1"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    worker.join(1)
    assert worker.is_alive()
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


class Hanging(lightning.Callback):
    """A step that takes for ever, which says so by a file."""

    def __init__(self, step: int, file: str) -> None:
        self.step, self.file = step, file

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.step:
            Path(self.file).touch()
            time.sleep(600)


@pytest.mark.parametrize(("step", "times"), [(1, 1), (3, 2)], ids=["before the first step", "a second one"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_it_ends_at_once(name: str, step: int, times: int, tmp_path: Path) -> None:
    folder, hangs = RunFolder(tmp_path / "run"), tmp_path / "hangs"
    hanging = f"[{{class_path: {__name__}.Hanging, init_args: {{step: {step}, file: {hangs}}}}}]"
    process = start(folder.path, *WORKERS, "--trainer.callbacks", hanging)
    until(hangs.exists)
    for _ in range(times):
        os.killpg(process.pid, signal.Signals[name])
        time.sleep(1.2)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[name], said
    (line,) = [line for line in said.splitlines() if ": error: " in line]
    assert f"stopped by {name} at step {step - 1}, at once" in line
    assert "Traceback" not in said
    assert folder.last_checkpoint.exists() == (step > 1)
    until(lambda: not members(process.pid), 20)


def test_a_hangup_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(folder.path)
    finally:
        signal.signal(signal.SIGHUP, before)
    until(folder.last_checkpoint.exists)
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(2)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_an_evaluation_with_workers_ends_in_one_line(name: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert main(["pretrain", *SMALL, "--run", str(folder.path), "--trainer.max_steps", "1"]) == 0
    data = tmp_path / "data.yaml"
    data.write_text(
        f"data:\n  class_path: ImageData\n  init_args:\n    workers: 2\n    train: {{class_path: {__name__}.Slow}}\n"
        f"    test: {{class_path: {__name__}.Slow}}\n    channels: 1\n"
        "    views: {class_path: SimCLRViews, init_args: {size: 8}}\n"
    )
    command = [sys.executable, "-m", "contrast", "knn", str(folder.path), "--data", str(data)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: len(workers(process.pid)) == 2)
    time.sleep(0.5)
    number = signal.Signals[name]
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    by = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert line.endswith(f"contrast knn: error: {by}")
    assert "Traceback" not in said
    until(lambda: not members(process.pid), 20)


class Slow(Dataset[Any]):
    """A set of images that takes for ever to read."""

    targets: ClassVar = [place % 10 for place in range(1000)]

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, place: int) -> Any:
        time.sleep(0.05)
        return Image.new("L", (8, 8), place % 255), place % 10
