"""A run of format 1, from before checkpoints had checksums, goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from contrast.cli import main
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import FORMAT, read_checkpoint

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data/format_1"
"""Four of six steps of MoCo with bad-pair mining, the fourth in mid-epoch, as commit 179a6c4 left them."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(ROOT)
    shutil.copytree(KEPT, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_a_run_of_format_1_goes_on_in_the_format_of_today(run: RunFolder) -> None:
    before = read_checkpoint(run.last_checkpoint)
    assert (before["contrast"]["format"], before["global_step"]) == (1, 4)
    losses = [row["train/loss"] for row in read_rows(run.metrics) if "train/loss" in row]
    assert main(["pretrain", "--resume", str(run.path), "--trainer.callbacks", "null"]) == 0
    after = read_checkpoint(run.last_checkpoint)
    assert (after["contrast"]["format"], after["global_step"]) == (FORMAT, 6)
    assert before["state_dict"].keys() == after["state_dict"].keys()
    rows = [row for row in read_rows(run.metrics) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["train/loss"] for row in rows[:4]] == losses
    assert all(0 < row["train/loss"] < 10 for row in rows)
    moved = [key for key, value in after["state_dict"].items() if not torch.equal(before["state_dict"][key], value)]
    for name in ("queues", "loss"):  # its keys, and the samples' losses
        assert [key for key in moved if key.startswith(f"{name}.")], name


def test_its_encoder_is_exported_and_evaluated(run: RunFolder) -> None:
    assert main(["export", str(run.path)]) == 0
    assert main(["knn", str(run.path), "--neighbours", "5"]) == 0
