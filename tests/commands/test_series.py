"""Time series through every command: the same as images, from a file of arrays or from `.ts`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from contrast.cli import main
from contrast.commands.demo import table
from contrast.commands.loading import load_run
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.commands.test_pretrain import STOP, equal
from tests.data.series.files import VOWELS, write_sines, write_ts

SMALL = """
model:
  class_path: SimCLR
  init_args:
    backbone: {class_path: ResNet1d, init_args: {blocks: [1, 1], base_width: 4}}
    head: {class_path: SimCLRHead, init_args: {output_width: 8}}
    optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
data:
  class_path: SeriesData
  init_args:
    train: {class_path: ArraySeries, init_args: {path: train.npz}}
    test: {class_path: ArraySeries, init_args: {path: test.npz}}
    views: {class_path: SeriesViews}
    channels: 2
    batch_size: 16
trainer: {max_epochs: 2}
metrics: {every_n_steps: 1}
scores: {every_n_steps: 1}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small sets and a configuration, where the command is started."""
    monkeypatch.chdir(tmp_path)
    write_sines(tmp_path / "train.npz", count=48)
    write_sines(tmp_path / "test.npz", count=40, seed=1)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def pretrain(run: str, *flags: object) -> int:
    return main(["pretrain", "--config", "small.yaml", "--run", run, *map(str, flags)])


def results(run: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted((Path(run) / "evaluations").iterdir())]
    return {result["command"]: result for result in found}


def test_a_run_is_evaluated_like_one_of_images(place: Path, capsys: pytest.CaptureFixture[str]):
    assert pretrain("run", "--online_knn.every_n_epochs", 1) == 0
    said = capsys.readouterr().err
    assert "method  SimCLR, ResNet1d with 8 features" in said
    assert "ArraySeries, 48 training series, SeriesViews of 2 channels and 20 steps, batches of 16" in said
    rows = read_rows(RunFolder(place / "run").metrics)
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "online/knn_top1" in row] == [0, 3, 6]  # at 0 with random weights
    assert main(["probe", "run", "--per-class", "5", "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    assert main(["knn", "run", "--neighbours", "5"]) == 0
    assert main(["probe", "run", "--finetune", "--fraction", "0.5", "--seeds", "2", "--epochs", "2"]) == 0
    assert main(["export", "run"]) == 0
    assert main(["report", "run"]) == 0
    assert (place / "run/report.html").is_file()
    found = results("run")
    assert found.keys() == {"probe", "knn", "finetune"}
    probe = found["probe"]
    low, high = probe["macro_auroc_interval"]
    assert f"macro AUROC {probe['macro_auroc']:.4f} [{low:.4f}, {high:.4f}]" in printed
    assert probe["macro_auroc"] == pytest.approx(np.mean([seed["macro_auroc"] for seed in probe["per_seed"]]))
    assert 0.5 < probe["macro_auroc"] <= 1
    assert probe["protocol"]["transform"].startswith("20 steps; 2 channels; mean (")
    assert found["finetune"]["protocol"]["train_transform"] == "none"
    assert "macro_auroc" in found["finetune"]
    card = json.loads((place / "run/export/card.json").read_text())
    assert (card["input"]["length"], card["input"]["channels"]) == (20, 2)
    assert len(card["evaluations"]) == 3


def test_the_exported_network_gives_the_same_bits(place: Path):
    from safetensors.torch import load_file

    assert pretrain("run") == 0
    assert main(["export", "run", "--output", "out"]) == 0
    names: dict[str, Any] = {"state": load_file("out/backbone.safetensors")}
    exec(json.loads(Path("out/card.json").read_text())["backbone"]["rebuild"], names)
    series = torch.randn(3, 2, 20)
    assert torch.equal(names["net"].eval()(series), load_run("run").backbone.eval()(series))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", ["SimCLR", "MoCo"])
def test_a_run_stopped_in_mid_epoch_resumes_bit_for_bit(method: str, workers: int, place: Path):
    arguments: list[object] = ["--data.workers", workers]
    if method == "MoCo":
        backbone = "{class_path: DilatedConvNet, init_args: {width: 8, hidden_width: 4, depth: 2}}"
        arguments += ["--model", "MoCo", "--model.bank.size", 20, "--model.backbone", backbone]
    whole, cut = RunFolder(place / "whole"), RunFolder(place / "cut")
    assert pretrain("whole", *arguments) == 0
    (place / "stop_series.py").write_text(STOP)
    stop = ["--trainer.callbacks", "[{class_path: stop_series.StopAt, init_args: {step: 4}}]"]
    sys.path.append(str(place))
    try:
        assert pretrain("cut", *arguments, *stop) == 130
        assert main(["pretrain", "--resume", "cut", "--trainer.callbacks", "null"]) == 0
    finally:
        sys.path.remove(str(place))
        sys.modules.pop("stop_series", None)
    assert equal(whole, cut)
    losses = [[row["train/loss"] for row in read_rows(run.metrics) if "train/loss" in row] for run in (whole, cut)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_a_data_section_alone_brings_a_backbone_of_its_channels(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "data.yaml").write_text("data:" + SMALL.partition("data:")[2].partition("trainer:")[0])
    assert main(["pretrain", "--config", "data.yaml", "--model", "SimCLR", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "class_path: contrast.models.ResNet1d" in printed
    assert "channels: 2" in printed.partition("backbone:")[2].partition("head:")[0]


def test_ts_files_of_unequal_lengths(place: Path, capsys: pytest.CaptureFixture[str]):
    write_ts(place / "a.ts")
    source = ["--data.train", "{class_path: TsFile, init_args: {path: a.ts}}", "--data.batch_size", "2"]
    assert pretrain("one", *source, "--data.test", "null") == 2
    assert "series 1 of TsFile: it has 2 steps and series 0 of the training set 3: set data.length" in last_line(capsys)
    assert pretrain("two", *source, "--data.test", "null", "--data.length", 8) == 0
    assert "2 channels and 8 steps" in capsys.readouterr().err


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.split("\r")[-1].splitlines() if ": error: " in line]
    assert len(lines) == 1, error
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.channels", "3"], ["series 0 of ArraySeries", "set it to 2"]),
        (["--data", "SeriesDatta"], ["no class 'SeriesDatta'", "did you mean 'SeriesData'"]),
        (["--data.views", "SeriesView"], ["no class 'SeriesView'", "did you mean 'SeriesViews'"]),
        (["--data.views.jitter", "-1"], ["jitter is -1"]),
        (["--data.views.segments", "[3, 2]"], ["segments is (3, 2)"]),
        (["--data.train.path", "none.npz"], ["there is no file 'none.npz'"]),
        (["--data.train.series", "x"], ["holds no array 'x'"]),
        (["--model.backbone", "ConvNet"], ["ConvNet takes images, and the data are series"]),
        (["--model.backbone.channels", "5"], ["ResNet1d takes 5 channels and the data have 2"]),
        (["--data.train", "{class_path: AeonSet, init_args: {name: None}}"], ["None"]),
        (["--data.train", "{class_path: AeonSet, init_args: {name: GunPont}}"], ["did you mean 'GunPoint'"]),
        (["--data.batch_size", "49"], ["batch_size 49", "48 training samples"]),
    ],
)
def test_what_is_given_wrongly_ends_in_one_line(
    flags: list[str], words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
):
    assert pretrain("run", *flags) == 2
    line = last_line(capsys)
    for word in words:
        assert word in line
    assert not (place / "run").exists()


def test_a_missing_value_is_named_by_sample_and_channel(place: Path, capsys: pytest.CaptureFixture[str]):
    series, labels = np.zeros((20, 2, 9)), np.arange(20) % 2
    series[7, 1, 3] = np.nan
    np.savez(place / "train.npz", series=series, labels=labels)
    assert pretrain("run") == 2
    assert "series 7: channel 1 is nan at step 3" in last_line(capsys)
    write_ts(place / "a.ts", VOWELS.replace("0.25,0.5", "0.25,?"))
    assert pretrain("run", "--data.train", "{class_path: TsFile, init_args: {path: a.ts}}") == 2
    assert "series 1: channel 0 is nan at step 1" in last_line(capsys)


def test_images_alone_are_flipped_and_come_with_weights_from_elsewhere(place: Path, capsys: pytest.CaptureFixture[str]):
    assert pretrain("run", "--trainer.max_epochs", 1) == 0
    capsys.readouterr()
    assert main(["probe", "run", "--finetune", "--flip", "0.5"]) == 2
    assert "--flip needs images, and the data are series" in last_line(capsys)
    (place / "w.pth").write_bytes(b"")
    assert main(["knn", "--weights", "w.pth", "--backbone", "resnet18", "--data", "small.yaml"]) == 2
    assert "--weights needs images, and the data are series" in last_line(capsys)


def test_a_run_is_evaluated_on_data_of_its_own_shape(place: Path, capsys: pytest.CaptureFixture[str]):
    assert pretrain("run", "--trainer.max_epochs", 1) == 0
    write_sines(place / "train.npz", count=40, channels=3)
    (place / "other.yaml").write_text("data:" + SMALL.partition("data:")[2].replace("channels: 2", "channels: 3"))
    capsys.readouterr()
    assert main(["knn", "run", "--data", "other.yaml"]) == 2
    assert "ResNet1d takes 2 channels and the data have 3" in last_line(capsys)


def test_the_demo_takes_a_configuration(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "more.yaml").write_text("trainer: {max_epochs: 1}")
    assert main(["demo", "--config", "small.yaml", "--config", "more.yaml", "--run", "run"]) == 0
    said = capsys.readouterr().out
    summary = json.loads((place / "run/summary.json").read_text())
    assert table(summary) in said
    assert "raw values" in said
    assert "40 test series" in said
    assert (summary["few_labels_per_class"], summary["neighbours"]) == (10, 20)
    assert 0 < summary["linear_macro_auroc"] <= 1
    assert (place / "run/report.html").is_file()
    (place / "untested.yaml").write_text("data: {init_args: {test: null}}")
    assert main(["demo", "--config", "small.yaml", "--config", "untested.yaml", "--run", "other"]) == 2
    assert "the configuration has none: give a test set" in last_line(capsys)
    assert not (place / "other").exists()


def test_one_channel_need_not_be_said(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "one.yaml").write_text(SMALL.replace("    channels: 2\n", ""))
    assert main(["pretrain", "--config", "one.yaml", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert "channels: 1" in printed.partition("backbone:")[2].partition("head:")[0]
    assert "channels: 1" in printed.partition("data:")[2]


def test_a_command_typed_again_keeps_the_measured_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its files go from images to series, and so drop what the stored configuration has of the series."""
    run, root = RunFolder(tmp_path / "run"), Path(__file__).parents[2]
    words = ["--config", root / "configs/demo.yaml", "--config", root / "tests/commands/small.yaml"]
    words += ["--config", root / "configs/data/japanese_vowels.yaml", "--data.limit", 64, "--data.batch_size", 32]
    words += ["--model.backbone", "{class_path: ResNet1d, init_args: {blocks: [1, 1], base_width: 4}}"]
    command = ["pretrain", *map(str, words), "--online_knn.every_n_epochs", "0", "--run", str(run.path)]
    assert main([*command, "--trainer.max_epochs", "1"]) == 0
    before = yaml.safe_load(run.config.read_text())["data"]["init_args"]
    assert len(before["mean"]) == len(before["std"]) == 12
    assert main([*command, "--trainer.max_epochs", "2", "--resume", "auto"]) == 0
    after = yaml.safe_load(run.config.read_text())["data"]["init_args"]
    assert (after["mean"], after["std"]) == (before["mean"], before["std"])
    changes = [row["changed"].keys() for row in read_rows(run.history)]
    assert changes == [{"trainer.max_epochs"}]
