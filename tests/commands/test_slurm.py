"""Jobs of SLURM's and other launchers: processes are this command's own, and whoever starts more of them is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contrast.records import read_rows
from tests.commands.running import SMALL, pretrain

ROOT = Path(__file__).parents[2]
# What `srun --ntasks=1` says to its process, as SLURM 23 does.
TASK = {
    "SLURM_JOB_ID": "417",
    "SLURM_JOB_NAME": "pretrain",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NNODES": "1",
    "SLURM_JOB_NODELIST": "node[1]",
}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_a_job_of_one_task_trains_with_as_many_processes_as_devices(tmp_path: Path) -> None:
    words = [*SMALL, "--run", str(tmp_path / "run"), "--trainer.max_steps", "2", "--data.batch_size", "16"]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "contrast", "pretrain", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **TASK}, check=False)
    assert done.returncode == 0, done.stderr
    _, first, *_ = read_rows(tmp_path / "run/scores.jsonl")
    assert sum(first["positive"]["counts"]) == 64  # both views of 2 x 16


def test_a_job_of_one_task_trains_with_one_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TASK.items():
        monkeypatch.setenv(name, value)
    assert pretrain(tmp_path / "run", "--trainer.max_steps", 1) == 0


@pytest.mark.parametrize(
    ("environment", "mend"),
    [
        ({**TASK, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, "srun --ntasks=1"),
        ({"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "without torchrun"),
    ],
)
def test_who_starts_several_processes_is_told_how_they_are_started(
    environment: dict[str, str],
    mend: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert pretrain(tmp_path / "run", "--trainer.max_steps", 1) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert mend in line
    assert "--trainer.devices" in line
    assert not (tmp_path / "run").exists()


def test_a_script_that_was_given_several_tasks_and_starts_one_process_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `sbatch --ntasks=4` without `srun` does: the job's number of tasks is not the step's."""
    for name in ("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, TASK[name])
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert pretrain(tmp_path / "run", "--trainer.max_steps", 1) == 0
