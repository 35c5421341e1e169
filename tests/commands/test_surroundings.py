"""What a command finds around it and leaves behind: streams, variables, names, threads, and what it says at the end."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest

from contrast.cli import COMMANDS, main
from contrast.commands.starting import claimed
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.status import read_status
from tests.commands.running import SMALL, pretrain

ROOT = Path(__file__).parents[2]
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu", "--data.batch_size", "16"]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = f"{shlex.quote(sys.executable)} -m contrast {line}"
    return subprocess.run(
        command, shell=True, text=True, capture_output=True, env=environment, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("trained") / "a run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        assert pretrain(folder.path) == 0
    return folder


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_started_with_a_closed_stream_trains(closed: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    done = shell(f"pretrain {' '.join(SMALL)} --run {folder.path} {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert [row["step"] for row in read_rows(folder.metrics) if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert main(["export", str(folder.path)]) == 0  # its checkpoint is whole


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"pretrain", "demo", "dashboard", "compare"}))
def test_every_command_works_with_all_streams_closed(name: str, trained: RunFolder) -> None:
    words = "--neighbours 5" if name == "knn" else ""
    done = shell(f"{name} {shlex.quote(str(trained.path))} {words} <&- >&- 2>&-")
    assert done.returncode == 0
    refused = shell(f"{name} nowhere 2>&-")
    assert refused.returncode == 2
    assert refused.stdout == ""


def test_output_that_the_terminal_cannot_show_is_escaped() -> None:
    done = shell("report --help", PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr


def test_what_a_run_sets_in_the_environment_is_gone_after_it(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert pretrain(tmp_path / "run", "--config", "configs/logger/wandb.yaml", "--trainer.max_steps", 1) == 0
    assert dict(os.environ) == before
    assert main(["knn", str(tmp_path / "run"), "--neighbours", "5"]) == 0
    assert dict(os.environ) == before


def test_runs_without_a_name_get_folders_of_their_own(tmp_path: Path) -> None:
    """As reported: 20 of them in one second."""
    with ThreadPoolExecutor(20) as pool:
        made = [*pool.map(lambda _: claimed(tmp_path / "runs", "simclr-20260301-120000"), range(20))]
    os.environ.pop("CONTRAST_RUN")
    assert len(set(made)) == 20
    assert all(path.is_dir() for path in made)


def test_further_processes_of_a_run_learn_its_made_up_name(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CONTRAST_RUN": "of somebody else"}
    files = [str(ROOT / word) if word.endswith(".yaml") else word for word in SMALL]
    command = [sys.executable, "-m", "contrast", "pretrain", *files, *TWO]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"contrast knn runs/{folder.name}" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


class Nested(lightning.Callback):
    """Starts another training from a thread while this one is under way."""

    codes: ClassVar[list[int]] = []

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        thread = threading.Thread(target=lambda: self.codes.append(pretrain(Path(self.folder))))
        thread.start()
        thread.join()


def test_a_second_training_in_a_thread_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nested = f"[{{class_path: {__name__}.Nested, init_args: {{folder: {tmp_path / 'second'}}}}}]"
    assert pretrain(tmp_path / "first", "--trainer.callbacks", nested, "--trainer.max_steps", 1) == 0
    assert Nested.codes.pop() == 2
    assert "another run is training in this process" in capsys.readouterr().err
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("port", "address", "expected"),
    [
        ("abc", "", "MASTER_PORT=abc in the environment is not a port"),
        ("99999", "", "MASTER_PORT=99999 in the environment is not a port"),
        ("taken", "", "Address already in use"),
        ("0", "no.such.machine.invalid", "MASTER_ADDR=no.such.machine.invalid"),
    ],
)
def test_an_address_where_processes_cannot_meet_is_one_line(
    port: str, address: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]) if port == "taken" else port)
        if address:
            monkeypatch.setenv("MASTER_ADDR", address)
        assert pretrain(tmp_path / "run", *TWO) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert expected in line
    assert not (tmp_path / "run").exists()


class Breaks(lightning.Callback):
    """A failure of something outside, in the middle of training."""

    def __init__(self, error: str) -> None:
        self.error = error

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 4:
            raise {"connection": ConnectionError("gone"), "file": FileNotFoundError(2, "No such file", "data/7.png")}[
                self.error
            ]


@pytest.mark.parametrize("error", ["connection", "file"])
def test_a_failure_inside_a_training_is_not_wrong_input(
    error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    breaks = f"[{{class_path: {__name__}.Breaks, init_args: {{error: {error}}}}}]"
    assert pretrain(folder.path, "--trainer.callbacks", breaks) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert "at step 4" in line
    assert f"contrast pretrain --resume {folder.path}" in line
    status = read_status(folder.status)
    assert status is not None
    assert status.state == "failed"


def test_the_end_says_what_was_reached_and_commands_that_work(
    trained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a run"
    assert pretrain(folder, "--online_knn.every_n_epochs", 1) == 0
    said = capsys.readouterr().err
    (done,) = [line for line in said.splitlines() if line.startswith("done ")]
    rows = read_rows(folder / "metrics.jsonl")
    assert f"{rows[-2]['train/loss'] if 'train/loss' in rows[-2] else rows[-3]['train/loss']:.3f}" in done
    assert re.search(r"6 steps, loss \d\.\d{3}, online kNN \d+\.\d%", done)
    commands = [line.removeprefix("next    contrast ") for line in said.splitlines() if line.startswith("next ")]
    assert [command.split()[0] for command in commands] == ["knn", "probe", "report", "doctor"]
    for command in commands:
        assert main(shlex.split(command)) == 0, command


class Look(lightning.Callback):
    """What a reader sees of a run before it trains."""

    seen: ClassVar[list[Any]] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.seen.append(read_status(Path(trainer.default_root_dir) / "status.json"))


def test_a_starting_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    look = ["--trainer.callbacks", f"[{__name__}.Look]"]
    assert pretrain(folder.path, *look, "--trainer.max_epochs", 1) == 0
    assert main(["pretrain", "--resume", str(folder.path), "--trust", "--trainer.max_epochs", "2"]) == 0
    first, second = Look.seen
    Look.seen.clear()
    assert (first.state, first.step) == ("starting", 0)
    assert (second.state, second.step, second.process) == ("starting", 3, os.getpid())
    before = folder.status.read_text()
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.precision", "64-true"]) == 2
    assert folder.status.read_text() == before
    capsys.readouterr()
