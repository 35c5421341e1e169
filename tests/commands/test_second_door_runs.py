"""The methods and losses beside SimCLR, MoCo and the formula, from the command line: train, resume, probe, refuse."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from contrast.cli import main
from contrast.commands.loading import load_run
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.commands.running import pretrain
from tests.commands.test_pretrain import STOP, equal, state

ROOT = Path(__file__).parents[2]
BACKBONE = ["--model.backbone", "{class_path: ConvNet, init_args: {widths: [4, 8]}}"]
NARROW = "{class_path: MLPHead, init_args: {hidden_width: 16, output_width: 8, batch_norm: true}}"
HEADS = ["--model.head", NARROW]
PREDICTORS = [*HEADS, "--model.predictor", NARROW]
RUNS: dict[str, list[str]] = {
    "nnclr": ["--model", "NNCLR", *PREDICTORS, "--model.bank", "{class_path: KeyQueue, init_args: {size: 40}}"],
    "mocov3": ["--model", "MoCoV3", *PREDICTORS],
    "simsiam": ["--model", "SimSiam", *PREDICTORS, "--model.rates.predictor.scheduled", "false"],
    "byol": ["--model", "BYOL", *PREDICTORS],
    "barlow_twins": ["--model", "TwoView", *HEADS, "--model.rates.norms_and_biases.factor", "0.024"],
    "vicreg": ["--model", "TwoView", *HEADS, "--model.loss", "VICReg"],
    "supcon": ["--model", "SimCLR", *HEADS, "--model.loss", "SupCon"],
    "look": [
        *("--model", "MoCo", *HEADS, "--model.loss", "{class_path: LOOK, init_args: {neighbours: 10}}"),
        *("--model.bank", "{class_path: KeyQueue, init_args: {size: 40}}"),
    ],
}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", RUNS)
def test_it_trains_and_is_probed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, *RUNS[name], *BACKBONE) == 0
    said = capsys.readouterr().err
    assert ("labels  of 96 samples reach the loss" in said) == (name in ("supcon", "look"))
    losses = [row["train/loss"] for row in read_rows(folder.metrics) if "train/loss" in row]
    assert len(losses) == 6
    assert len(set(losses)) > 4
    assert all(math.isfinite(loss) for loss in losses)
    header, *scores = read_rows(folder.scores)
    assert len(header["edges"]) == 101
    directions = 1 if name in ("barlow_twins", "vicreg", "look") else 2
    assert [sum(row["positive"]["counts"]) for row in scores] == [32 * directions] * 6
    assert any(key.startswith("predictor.") for key in state(folder)) == (
        name in ("nnclr", "mocov3", "simsiam", "byol")
    )
    assert load_run(folder.path).backbone.width == 8
    if name in ("nnclr", "byol", "supcon"):  # a bank, a target, labels
        assert main(["probe", str(folder.path), "--per-class", "2", "--seeds", "1"]) == 0


@pytest.mark.parametrize("name", ["nnclr", "mocov3", "byol", "look", "simsiam"])
def test_a_run_stopped_in_mid_epoch_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    assert pretrain(whole.path, *RUNS[name], *BACKBONE) == 0
    (tmp_path / "stop.py").write_text(STOP)
    stop = ["--trainer.callbacks", "[{class_path: stop.StopAt, init_args: {step: 4}}]"]
    sys.path.append(str(tmp_path))
    try:
        assert pretrain(cut.path, *RUNS[name], *BACKBONE, *stop) == 130
        assert not equal(whole, cut)
        assert main(["pretrain", "--resume", str(cut.path), "--trainer.callbacks", "null"]) == 0
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("stop", None)
    assert equal(whole, cut)
    losses = [[row["train/loss"] for row in read_rows(run.metrics) if "train/loss" in row] for run in (whole, cut)]
    assert losses[0] == losses[1]


def test_a_loss_of_one_direction_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run", "--model.loss", "VICReg") != 0
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.endswith("SimCLR cannot host VICReg, which takes one direction: use --model TwoView")


def test_a_temperature_of_another_batch_size_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loss = "{class_path: BarlowTwins, init_args: {temperature: {class_path: AdaptiveTemperature}}}"
    words = ["--model", "TwoView", *HEADS, "--model.loss", loss, *BACKBONE]
    assert pretrain(tmp_path / "run", *words) != 0
    assert "set loss.temperature.width to the global batch size" in capsys.readouterr().err.splitlines()[-1]
    assert pretrain(tmp_path / "again", *words, "--model.loss.temperature.width", 32) == 0


def test_amcls_simsiam_from_the_command_line(tmp_path: Path) -> None:
    several = f"{{class_path: MultiHead, init_args: {{head: {NARROW}}}}}"
    loss = (
        "{class_path: SimSiamLoss, init_args: {temperature: {class_path: AdaptiveTemperature, init_args: {width: 8}}}}"
    )
    words = ["--model", "SimSiam", *HEADS, "--model.predictor", several, "--model.loss", loss]
    assert pretrain(tmp_path / "run", *words, *BACKBONE) == 0
