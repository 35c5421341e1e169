"""Where a run is: what the file says at every end that a run can have, and what a reader makes of it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import lightning
import pytest

from contrast.callbacks import Checkpoints, RunStatus
from contrast.errors import InputError, RunStopped
from contrast.run_folder import RunFolder
from contrast.runs.status import Status, read_status, utc_now, write_status
from tests.callbacks.fitting import fit, simclr
from tests.commands.running import StopAt

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Raise(lightning.Callback):
    """Ends the run at a step by an exception."""

    def __init__(self, step: int, exception: BaseException) -> None:
        self.step, self.exception = step, exception

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise self.exception


class Look(lightning.Callback):
    """Reads the file after every step, as somebody else would."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.seen = folder, []

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.seen.append(status_of(self.folder))


def status_of(folder: RunFolder) -> Status:
    status = read_status(folder.status)
    assert status is not None
    return status


def said(**changes: Any) -> Status:
    """A running run of this very process, last heard of at `NOW`."""
    when = NOW.isoformat(timespec="seconds")
    status = Status("running", 120, 900, 4, 30, when, when, socket.gethostname(), os.getpid())
    return dataclasses.replace(status, **changes)


def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_run_says_where_it_is_and_that_it_has_finished(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    look = Look(folder)
    fit(tmp_path, simclr(), [RunStatus(folder, every_seconds=0), look])
    assert [(status.state, status.step, status.epoch) for status in look.seen] == [
        ("running", step, (step - 1) // 3) for step in range(1, 7)
    ]
    end = status_of(folder)
    assert (end.state, end.step, end.steps, end.epoch, end.epochs, end.message) == ("finished", 6, 6, 1, 2, "")
    assert (end.host, end.process) == (socket.gethostname(), os.getpid())
    assert end.started <= end.updated <= utc_now()
    assert end.updated.endswith("+00:00")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"], "nothing is left beside it"


def test_it_is_written_at_the_start_and_then_every_few_seconds(tmp_path: Path, monkeypatch: Any) -> None:
    ticks = iter(range(0, 10_000, 2))  # each look at the clock finds it two seconds on
    monkeypatch.setattr("contrast.callbacks.status.time.monotonic", lambda: float(next(ticks)))
    folder = RunFolder(tmp_path)
    look = Look(folder)
    fit(tmp_path, simclr(), [RunStatus(folder), look])
    assert [status.step for status in look.seen] == [0, 0, 3, 3, 3, 6]


def test_a_run_measured_in_steps_has_no_number_of_epochs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    fit(tmp_path, simclr(), [RunStatus(folder)], max_epochs=-1, max_steps=4)
    end = status_of(folder)
    assert (end.state, end.step, end.steps, end.epochs) == ("finished", 4, 4, None)


@pytest.mark.parametrize(
    ("exception", "state", "message"),
    [
        (RuntimeError("out of\nmemory"), "failed", "RuntimeError: out of memory"),
        (AssertionError(), "failed", "AssertionError"),
        (RunStopped("the loss was nan at step 4"), "failed", "the loss was nan at step 4"),
        (InputError("07.png is cut short"), "failed", "07.png is cut short"),
        (RunStopped("interrupted at step 4", exit_code=130), "stopped", "interrupted at step 4"),
        (SystemExit(143), "stopped", "stopped by a signal"),
    ],
)
def test_a_run_that_ends_early_says_why(exception: BaseException, state: str, message: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(type(exception)):
        fit(tmp_path, simclr(), [RunStatus(folder), Raise(4, exception)])
    end = status_of(folder)
    assert (end.state, end.step, end.message) == (state, 4, message)


def test_ctrl_c_once_and_at_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunStopped):
        fit(tmp_path, simclr(), [RunStatus(folder), StopAt(4), Checkpoints(folder, {})])
    assert (status_of(folder).state, status_of(folder).step) == ("stopped", 4)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):  # Lightning's answer to a KeyboardInterrupt
            fit(tmp_path, simclr(), [RunStatus(folder), Raise(2, KeyboardInterrupt())])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (status_of(folder).state, status_of(folder).step) == ("stopped", 2)


def test_a_last_checkpoint_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    class Full(lightning.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            assert status_of(folder).state == "running", "it is not finished yet"
            raise OSError(28, "No space left on device")

    folder = RunFolder(tmp_path)
    with pytest.raises(OSError, match="No space"):
        fit(tmp_path, simclr(), [RunStatus(folder), Full()])
    assert status_of(folder).state == "failed"
    assert "No space left on device" in status_of(folder).message


def test_a_resumed_run_writes_it_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    trainer = fit(tmp_path, simclr(), [], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    write_status(folder.status, said(state="failed", message="out of memory"))
    look = Look(folder)
    fit(tmp_path, simclr(), [RunStatus(folder, every_seconds=0), look], resume=tmp_path / "kept.ckpt")
    assert (look.seen[0].state, look.seen[0].step, look.seen[0].message) == ("running", 4, "")
    assert (status_of(folder).state, status_of(folder).step) == ("finished", 6)


def test_an_attempt_that_never_began_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    class Refuse(lightning.Callback):
        def setup(self, *arguments: Any, **named: Any) -> None:
            raise InputError("of another architecture")

    folder = RunFolder(tmp_path)
    with pytest.raises(InputError):
        fit(tmp_path, simclr(), [RunStatus(folder), Refuse()])
    assert (status_of(folder).state, status_of(folder).message) == ("failed", "of another architecture")
    write_status(folder.status, said(state="finished"))
    with pytest.raises(InputError):
        fit(tmp_path, simclr(), [RunStatus(folder), Refuse()])
    assert status_of(folder) == said(state="finished")


def test_one_process_of_many_writes(tmp_path: Path) -> None:
    trainer = Mock(lightning.Trainer, is_global_zero=False, global_step=5, current_epoch=1, max_epochs=2)
    watch = RunStatus(RunFolder(tmp_path), every_seconds=0)
    watch.on_train_start(trainer, simclr())
    watch.on_train_batch_end(trainer, simclr(), {}, None, 0)
    watch.on_exception(trainer, simclr(), RuntimeError())
    watch.on_fit_end(trainer, simclr())
    assert not any(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from contrast.callbacks import RunStatus
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import fit, simclr
from tests.callbacks.test_status import Raise

class Kill(Raise):
    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

folder = RunFolder(Path(sys.argv[1]))
fit(folder.path, simclr(), [RunStatus(folder, every_seconds=0), Kill(4, RuntimeError())])
"""


def test_a_killed_run_is_found_out_after_a_minute(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    status = status_of(RunFolder(tmp_path))
    assert (status.state, status.step) == ("running", 4)
    last = datetime.fromisoformat(status.updated)
    assert status.standing(last + timedelta(seconds=59)) == "running"
    assert status.standing(last + timedelta(seconds=61)) == "killed"


def test_what_a_reader_makes_of_a_run_that_says_it_is_running() -> None:
    minute, later = NOW + timedelta(seconds=61), NOW + timedelta(seconds=601)
    assert said().standing(minute) == "running", "its process is this one"
    assert said().standing(later) == "silent", "it lives and says nothing"
    assert said(process=gone()).standing(minute) == "killed"
    assert said(process=gone()).standing(later) == "killed"
    assert said(process=gone()).standing(NOW + timedelta(seconds=59)) == "running"
    assert said(process=gone(), host="elsewhere").standing(minute) == "running", "no process of ours"
    assert said(process=gone(), host="elsewhere").standing(later) == "silent"
    assert said(process=0).standing(minute) == "killed"
    assert said(process=2**52).standing(minute) == "killed"
    assert said().standing(NOW - timedelta(hours=1)) == "running", "its clock is ahead"
    for state in ("finished", "stopped", "failed"):
        assert said(state=state, process=gone()).standing(later) == state


def test_a_process_of_somebody_else_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrast.runs.status.os.kill", Mock(side_effect=PermissionError))
    assert said().standing(NOW + timedelta(seconds=61)) == "running"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[1]", b"\xff", b"[" * 100_000, b'{"state": "running"}',
        *(json.dumps({**dataclasses.asdict(said()), **bad}).encode() for bad in (
            {"state": "lost"}, {"state": []}, {"step": -1}, {"step": "4"}, {"step": None}, {"process": 1e3},
            {"process": True}, {"updated": "yesterday"}, {"updated": "2026-03-01T12:00:00"}, {"updated": 5},
        )),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_it_should_be_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_bytes(content)
    assert read_status(tmp_path / "status.json") is None
    assert read_status(tmp_path / "none.json") is None
    assert read_status(tmp_path) is None


def test_what_can_be_left_out_may_be_missing(tmp_path: Path) -> None:
    least = {"state": "running", "step": 3, "process": 1, "updated": "2026-03-01T12:00:00Z", "more": [1]}
    (tmp_path / "status.json").write_text(json.dumps(least))
    status = status_of(RunFolder(tmp_path))
    assert (status.steps, status.epoch, status.epochs, status.host, status.message) == (None, 0, None, "", "")
    assert status.started == status.updated
    assert status.age(NOW + timedelta(seconds=9)) == 9


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_status(path, said())
    done = threading.Event()

    def write() -> None:
        for number in range(1500):
            write_status(path, said(step=number, message="word " * (number % 400)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert read_status(path) is not None
        time.sleep(0)
    writer.join()
