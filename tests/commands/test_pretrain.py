"""`contrast pretrain` from words to a run folder."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from contrast.cli import main
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL, pretrain

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """One finished run that several tests look at."""
    os.chdir(ROOT)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "finished")
    assert pretrain(folder.path, "--online_knn.every_n_epochs", 1) == 0
    return folder


def state(folder: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(folder.last_checkpoint, weights_only=True)["state_dict"]


def equal(one: RunFolder, other: RunFolder) -> bool:
    first, second = state(one), state(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_what_a_run_leaves_behind(finished: RunFolder) -> None:
    rows = read_rows(finished.metrics)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "online/knn_top1" in row] == [0, 3, 6]  # at 0 with random weights
    header, *scores = read_rows(finished.scores)
    assert len(header["edges"]) == 101
    assert [row["step"] for row in scores] == [1, 2, 3, 4, 5, 6]
    assert sum(scores[0]["positive"]["counts"]) == 64
    assert sum(scores[0]["negative"]["counts"]) == 48 * 62  # of so many of the 64 queries
    with open(finished.metrics_table) as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2", "3", "4", "5", "6"]
    assert finished.last_checkpoint.is_file()


def test_the_start_says_method_loss_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run", "--model.loss.objective", "DCL", "--trainer.max_epochs", 1) == 0
    said = capsys.readouterr().err
    assert "method  SimCLR, ConvNet with 8 features" in said
    assert "loss    DCL(), temperature 0.2" in said
    assert "data    Digits, 96 training images, SimCLRViews of 8 pixels, batches of 32" in said


def test_the_saved_configuration_starts_the_same_run_again(finished: RunFolder, tmp_path: Path) -> None:
    again = RunFolder(tmp_path / "again")
    assert pretrain(again.path, "--config", finished.config, small=False) == 0
    assert equal(finished, again)
    assert yaml.safe_load(again.config.read_text()) == yaml.safe_load(finished.config.read_text())


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", ["SimCLR", "MoCo"])
def test_a_run_stopped_in_mid_epoch_resumes_bit_for_bit(method: str, workers: int, tmp_path: Path) -> None:
    arguments = ["--data.workers", workers, "--model.loss.temperature", "{class_path: LearnedTemperature}"]
    if method == "MoCo":
        backbone = "{class_path: ConvNet, init_args: {widths: [4, 8]}}"
        arguments = ["--model", "MoCo", "--model.bank.size", 40, "--model.backbone", backbone, *arguments]
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    assert pretrain(whole.path, *arguments) == 0
    # Stopped after step 4 of 6, the first of the second epoch: the schedule must still be the whole run's.
    config = tmp_path / "stop.py"
    config.write_text(STOP)
    stop = ["--trainer.callbacks", "[{class_path: stop.StopAt, init_args: {step: 4}}]"]
    sys.path.append(str(tmp_path))
    try:
        assert pretrain(cut.path, *arguments, *stop) == 130
        assert main(["pretrain", "--resume", str(cut.path), "--trainer.callbacks", "null"]) == 0
    finally:
        sys.path.remove(str(tmp_path))
    assert equal(whole, cut)
    losses = [[row["train/loss"] for row in read_rows(run.metrics) if "train/loss" in row] for run in (whole, cut)]
    assert losses[0] == losses[1]


STOP = """
import os, signal
import lightning

class StopAt(lightning.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)
"""


def test_epochs_differ_in_order() -> None:
    from contrast.data.loader import EpochBatches

    batches = EpochBatches(20, 5, seed=0)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert [index for batch in first for _, index in batch] != [index for batch in second for _, index in batch]
    assert sorted(index for batch in second for _, index in batch) == list(range(20))


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, "--trainer.max_epochs", "5000"]
    process = subprocess.Popen([*command, "--run", folder.path], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 120
    while len(read_rows(folder.metrics)) < 5 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"contrast pretrain --resume {folder.path}" in said.splitlines()[-1]
    assert "Traceback" not in said
    step = torch.load(folder.last_checkpoint, weights_only=True)["global_step"]
    assert step == read_rows(folder.metrics)[-1]["step"]


def test_a_loss_class_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squared.py").write_text(OUTSIDE)
    (tmp_path / "mine.yaml").write_text("model: {init_args: {loss: {class_path: squared.SquaredDistance}}}")
    for folder in ("configs", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    try:
        assert pretrain(tmp_path / "run", "--config", "mine.yaml", "--trainer.max_epochs", 1) == 0
    finally:
        sys.path.remove(str(tmp_path))
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]["init_args"]["loss"] == {
        "class_path": "squared.SquaredDistance",
        "init_args": {"power": 2.0},
    }


OUTSIDE = """
from contrast.losses import Loss, LossOutput

class SquaredDistance(Loss):
    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, *pairs):
        (each,) = pairs
        losses = (each.query - each.positive).norm(dim=-1) ** self.power
        return LossOutput(losses.mean(), losses.detach(), None, (each.detached(),))
"""


def test_an_infinite_loss_stops_the_run_with_step_value_and_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    code = pretrain(folder.path, "--model.optimizer.lr", "1e30", "--model.schedule.warmup_epochs", 0)
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    assert "the loss was nan at step" in said
    assert "lower the rate" in said
    if folder.last_checkpoint.exists():
        assert all(value.isfinite().all() for value in state(folder).values())


def test_bf16_keeps_scores_in_float32(tmp_path: Path) -> None:
    assert pretrain(tmp_path / "run", "--trainer.precision", "bf16-mixed", "--trainer.max_epochs", 1) == 0


def test_two_processes_train(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, "--run", str(tmp_path / "run")]
    spread = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run([*command, *spread, "--data.batch_size", "16"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [row["step"] for row in read_rows(tmp_path / "run/metrics.jsonl") if "train/loss" in row] == [*range(1, 7)]


def test_print_config_is_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *SMALL, "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["batch_size"] == 32
