"""A resume that would share out the samples of an epoch otherwise is refused in one line with both values."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contrast.cli import main
from contrast.commands.resuming import Stored, require_same_batches
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from tests.commands.running import SMALL, pretrain
from tests.commands.test_stopping import NO_MORE, signalled

ROOT = Path(__file__).parents[2]
MORE = ["--trainer.max_epochs", "4"]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four of six steps, the fourth in mid-epoch."""
    folder = RunFolder(tmp_path_factory.mktemp("kept") / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        assert pretrain(folder.path, *signalled(4, signal.SIGINT)) == 130
    return folder


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(kept.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
OTHER = {
    "data.batch_size": (["--data.batch_size", "16"], "32", "16"),
    "trainer.accumulate_grad_batches": (["--trainer.accumulate_grad_batches", "3"], "1", "3"),
    "data.limit": (["--data.limit", "64"], "96", "64"),
    "data.seed": (["--data.seed", "5"], "0", "5"),
    "trainer.limit_train_batches": (["--trainer.limit_train_batches", "2"], "1.0", "2"),
    "trainer.overfit_batches": (["--trainer.overfit_batches", "2"], "0.0", "2"),
    "trainer.devices": (TWO, "1 processes", "2"),
    # The global batch stays, and so do positions; batch norm and what each process keeps do not.
    "trainer.devices with the batch shared": ([*TWO, "--data.batch_size", "16"], "32", "16"),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_samples_a_step_are_refused(what: str, run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    words, was, would = OTHER[what]
    before = run.config.read_bytes(), run.last_checkpoint.read_bytes(), run.status.read_bytes()
    assert main(["pretrain", "--resume", str(run.path), *MORE, *NO_MORE, *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{what.partition(' ')[0]}: " in line or "data.batch_size: " in line  # the flag that is the cause
    assert f"was trained with {was} up to step" in line
    assert f", and {would} would change the samples of each step" in line
    assert (run.config.read_bytes(), run.last_checkpoint.read_bytes(), run.status.read_bytes()) == before


def stored(trainer: dict[str, Any], data: dict[str, Any], **ours: Any) -> Stored:
    """A checkpoint of a run with these settings; without `batch` it is one of an earlier version."""
    config = {"trainer": trainer, "data": {"class_path": "ImageData", "init_args": data}}
    return Stored(Path("last.ckpt"), 40, 2, True, {"config": config, **ours}, [])


def refused(before: Stored, trainer: dict[str, Any], data: dict[str, Any], processes: int) -> str:
    after = {"trainer": trainer, "data": {"class_path": "ImageData", "init_args": data}}
    try:
        require_same_batches(before, after, processes)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("trainer", "processes", "wrong"),
    [
        ({"devices": 2}, 1, "2 processes"),
        ({"devices": 2}, 4, "2 processes"),
        ({"devices": 2}, 2, ""),
        ({"devices": [0, 3]}, 1, "2 processes"),
        ({"devices": "auto", "accelerator": "cpu"}, 2, "1 processes"),
        ({"devices": "auto", "accelerator": "auto"}, 2, ""),  # nobody knows: it goes on as before
        ({}, 2, ""),
    ],
)
def test_an_old_checkpoint_says_what_its_configuration_does(
    trainer: dict[str, Any], processes: int, wrong: str
) -> None:
    said = refused(stored(trainer, {"batch_size": 8}), trainer, {"batch_size": 8}, processes)
    assert (wrong in said) if wrong else not said


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"data": {"batch_size": 8}}, {"data": {"batch_size": 16}}),
        ({"trainer": {}}, {"trainer": {"accumulate_grad_batches": 2}}),
        ({"data": {"limit": None}}, {"data": {"limit": 50}}),
        ({"data": {}}, {"data": {"limit": 50}}),
        ({"data": {"seed": 0}}, {"data": {"seed": 1}}),
        ({"trainer": {}}, {"trainer": {"limit_train_batches": 0.5}}),
        ({"trainer": {"overfit_batches": 0.0}}, {"trainer": {"overfit_batches": 3}}),
    ],
    ids=str,
)
def test_each_setting_of_an_old_checkpoint(before: dict[str, Any], after: dict[str, Any]) -> None:
    one, other = ([each.get("trainer", {}), each.get("data", {})] for each in (before, after))
    assert refused(stored(*one), *other, 1)
    assert refused(stored(*other), *one, 1)
    assert not refused(stored(*one), *one, 1)
    assert not refused(stored(*other), *other, 1)


@pytest.mark.parametrize(
    "words",
    [["--data.workers", "1", "--trainer.limit_train_batches", "1.0", "--trainer.overfit_batches", "0"]],
    ids=" ".join,
)
def test_what_means_the_same_goes_on(words: list[str], run: RunFolder) -> None:
    assert main(["pretrain", "--resume", str(run.path), *MORE, *NO_MORE, *words, "--trainer.devices", "1"]) == 0


def in_processes(folder: Path, count: int, *words: str) -> subprocess.CompletedProcess[str]:
    several = ["--trainer.accelerator", "cpu", "--trainer.devices", str(count)]
    several += ["--trainer.strategy", "ddp" if count > 1 else "auto"]
    command = [sys.executable, "-m", "contrast", "pretrain", *words, *several]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four of six steps, by two processes."""
    folder = RunFolder(tmp_path_factory.mktemp("two") / "run")
    words = [*SMALL, "--data.batch_size", "16", "--trainer.max_steps", "4", "--run", str(folder.path)]
    done = in_processes(folder.path, 2, *words)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("count", "batch"), [(1, "16"), (4, "16"), (1, "32")])
def test_two_processes_do_not_become_another_number(count: int, batch: str, of_two: RunFolder, tmp_path: Path) -> None:
    """Samples were seen twice, or never, with exit code 0; also where the global batch is kept."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(of_two.path, run.path)
    before = run.config.read_bytes()
    words = ["--resume", str(run.path), "--trainer.max_steps", "-1", "--data.batch_size", batch]
    done = in_processes(run.path, count, *words)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if ": error: " in line]
    said = ("2 processes", str(count)) if batch == "16" else ("16", "32")
    assert f"was trained with {said[0]} up to step 4, and {said[1]} would change the samples" in line
    assert run.config.read_bytes() == before


def test_a_checkpoint_records_processes_and_batches(of_two: RunFolder) -> None:
    assert read_checkpoint(of_two.last_checkpoint)["contrast"]["batch"] == {
        "processes": 2,
        "batch_size": 16,
        "accumulate_grad_batches": 1,
        "global_batch": 32,
    }


def test_two_processes_go_on_as_two(of_two: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(of_two.path, run.path)
    done = in_processes(run.path, 2, "--resume", str(run.path), "--trainer.max_steps", "-1")
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 6
    assert "trainer.max_steps 4 -> -1 from step 4" in done.stderr
    assert done.stderr.count("note    trainer.max_steps") == 1  # not by every process
