"""A run, its checkpoint, export, evaluation and records of commit 8f65e59, before half of the modules were merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from contrast.cli import main
from contrast.commands.configuration import read_yaml
from contrast.commands.loading import load_run
from contrast.doctor import examine
from contrast.models import ConvNet, load_weights
from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data/before_the_move"
"""Four steps of SimCLR with bad-pair mining on 96 digits, then kNN and an export, as commit 8f65e59 wrote them."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(ROOT)
    shutil.copytree(KEPT, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_run_goes_on(run: RunFolder) -> None:
    before = read_checkpoint(run.last_checkpoint)
    kept = [row["train/loss"] for row in read_rows(run.metrics) if "train/loss" in row]
    assert main(["pretrain", "--resume", str(run.path), "--trainer.max_steps", "6"]) == 0
    after = read_checkpoint(run.last_checkpoint)
    assert (before["global_step"], after["global_step"]) == (4, 6)
    assert before["state_dict"].keys() == after["state_dict"].keys()
    losses = [row["train/loss"] for row in read_rows(run.metrics) if "train/loss" in row]
    assert losses[:4] == kept
    assert len(losses) == 6


def test_its_configuration_starts_a_new_run(run: RunFolder, tmp_path: Path) -> None:
    new = RunFolder(tmp_path / "new")
    assert main(["pretrain", "--config", str(run.config), "--run", str(new.path)]) == 0
    before, after = (
        [row["train/loss"] for row in read_rows(each.metrics) if "train/loss" in row] for each in (run, new)
    )
    assert after == pytest.approx(before, rel=1e-3)  # machines round differently
    written = read_yaml(new.config)
    assert written["scores"].pop("observers") == []  # a key that the run's version did not have
    assert written == read_yaml(run.config)


def test_its_encoder_is_the_one_that_was_exported(run: RunFolder) -> None:
    card = json.loads((run.export / "card.json").read_text())
    loaded = load_run(run.path)
    assert loaded.encoder.fingerprint == card["fingerprint"]
    backbone = ConvNet((4, 8), channels=1, image_size=8)
    assert load_weights(backbone, run.export / "backbone.safetensors") == []
    for name, tensor in loaded.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name


def test_the_same_evaluation_has_the_same_number(run: RunFolder) -> None:
    (path,) = run.evaluations.iterdir()
    before = json.loads(path.read_text())
    assert main(["knn", str(run.path), "--neighbours", "5"]) == 0
    (path,) = run.evaluations.iterdir()
    after = json.loads(path.read_text())
    assert after["top1"] == pytest.approx(before["top1"], abs=0.02)
    assert after["protocol"]["data"] == before["protocol"]["data"]


def test_its_page_and_its_diagnosis_are_there(run: RunFolder) -> None:
    page = build_page(read_runs([run]))
    assert "SimCLR" in page
    assert "BadPairMining" in page
    assert examine(run).findings is not None
