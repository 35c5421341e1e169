"""What a configuration leaves to the data and to the run: samples, labels, seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from contrast.cli import main
from contrast.commands.loading import load_run
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from tests.commands.running import pretrain

PIECES = """
model:
  init_args:
    loss:
      init_args:
        transforms:
          - SameClassRemoval
          - {class_path: HardNegativeMixing, init_args: {hardest: 8, pairs: 2, queries: 2, start_epoch: 0}}
          - PositiveExtrapolation
        weighting: {class_path: BadPairMining, init_args: {warmup_epochs: 1, noisy: 0.5, faulty: 0.5}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("facts")
    (folder / "pieces.yaml").write_text(PIECES)
    assert pretrain(folder / "run", "--config", folder / "pieces.yaml", "--seed_everything", 7) == 0
    return RunFolder(folder / "run")


def test_every_class_that_takes_a_seed_has_the_runs(run: RunFolder) -> None:
    transforms = yaml.safe_load(run.config.read_text())["model"]["init_args"]["loss"]["init_args"]["transforms"]
    assert [each["init_args"].get("seed") for each in transforms] == [None, 7, 7]


def test_a_seed_that_is_given_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "[{class_path: NegativeInterpolation, init_args: {seed: 3}}, NegativeInterpolation]"
    words = ["--config", "configs/demo.yaml", "--model.loss.transforms", said, "--seed_everything", "7"]
    assert main(["pretrain", *words, "--print_config"]) == 0
    loss = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["loss"]
    assert [each["init_args"]["seed"] for each in loss["init_args"]["transforms"]] == [3, 7]


def test_samples_and_labels_come_from_the_training_set(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = read_checkpoint(run.last_checkpoint)["state_dict"]
    assert state["loss.weighting.total"].shape == (96,)
    assert (state["loss.weighting.count"] == 2).all()
    assert not any("labels" in name for name in state)
    (tmp_path / "pieces.yaml").write_text(PIECES)
    assert pretrain(tmp_path / "run", "--config", tmp_path / "pieces.yaml") == 0
    said = capsys.readouterr().err
    assert "labels  of 96 samples reach the loss through SameClassRemoval" in said
    assert "loss    InfoNCE(), temperature 0.2, SameClassRemoval(), HardNegativeMixing(hardest=8, " in said


def test_what_was_flagged_is_written_epoch_by_epoch(run: RunFolder) -> None:
    (row,) = read_rows(run.flagged)
    state = read_checkpoint(run.last_checkpoint)["state_dict"]
    for name in ("noisy", "faulty"):
        assert row[name] == state[f"loss.weighting.is_{name}"].nonzero().flatten().tolist()
        assert row[name]
    assert row["epoch"] == 1
    assert row["mean"] == pytest.approx(state["loss.weighting.mean"].item())


def test_a_run_is_evaluated_on_a_set_of_another_size(run: RunFolder) -> None:
    loaded = load_run(run.path, ["configs/data/digits.yaml", str(_sized(run))])
    assert loaded.data.train_samples == 1437


def _sized(run: RunFolder) -> Path:
    path = run.path.parent / "sized.yaml"
    path.write_text("data: {init_args: {views: {class_path: SimCLRViews, init_args: {size: 8}}}}")
    return path


def test_labels_that_there_are_none_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy

    numpy.savez(tmp_path / "x.npz", images=torch.zeros(40, 8, 8, dtype=torch.uint8).numpy())
    data = f"{{class_path: ArrayImages, init_args: {{path: {tmp_path / 'x.npz'}, labels: null}}}}"
    words = ["--data.train", data, "--data.test", "null", "--data.limit", "null"]
    assert pretrain(tmp_path / "run", "--model.loss.transforms", "[SameClassRemoval]", *words) == 2
    assert "SameClassRemoval learns from labels and the training set has none" in capsys.readouterr().err
