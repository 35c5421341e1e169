"""A run from before a default changed keeps the former one: image mean and deviation, and the stem that auto means."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from contrast.cli import main
from contrast.commands.loading import load_run
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint

KEPT = Path(__file__).parents[1] / "data/auto_stem"
"""One epoch of SimCLR with a narrow ResNet and `stem: auto` on 64 pixels, as commit 6d39d85 left it."""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    shutil.copytree(KEPT, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        config["data"]["init_args"].pop(name, None)
        config["model"]["init_args"]["backbone"]["init_args"].pop(name, None)
    return config


@pytest.fixture
def run_without_keys(run: RunFolder) -> RunFolder:
    """The same run as a version would have left it that knew neither `stem` nor `mean` nor `std`."""
    names = ("stem", "mean", "std")
    run.config.write_text(yaml.safe_dump(without(yaml.safe_load(run.config.read_text()), *names)))
    content = read_checkpoint(run.last_checkpoint)
    without(content["contrast"]["config"], *names)
    write_checkpoint(content, run.last_checkpoint, None)
    return run


@pytest.mark.parametrize("which", ["run", "run_without_keys"])
def test_an_old_run_keeps_its_stem_and_its_standardisation(which: str, request: pytest.FixtureRequest) -> None:
    folder: RunFolder = request.getfixturevalue(which)
    loaded = load_run(folder.path)
    assert loaded.backbone.describe()["stem"] == "small"
    assert (loaded.data.standardisation.mean, loaded.data.standardisation.std) == ((0.5,), (0.25,))
    assert loaded.data.measured() == {}
    assert main(["knn", str(folder.path), "--neighbours", "5"]) == 0
    assert main(["export", str(folder.path)]) == 0


@pytest.mark.parametrize("which", ["run", "run_without_keys"])
def test_an_old_run_goes_on_with_its_stem_and_its_standardisation(which: str, request: pytest.FixtureRequest) -> None:
    folder: RunFolder = request.getfixturevalue(which)
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.max_epochs", "2"]) == 0
    content = read_checkpoint(folder.last_checkpoint)
    assert content["global_step"] == 4
    assert content["state_dict"]["backbone.conv1.weight"].shape[-1] == 3
    data = content["contrast"]["config"]["data"]["init_args"]
    assert (data["mean"], data["std"]) == ([0.5], [0.25])


def test_its_configuration_starts_the_same_run_again(run: RunFolder, tmp_path: Path) -> None:
    again = RunFolder(tmp_path / "again")
    assert main(["pretrain", "--config", str(run.config), "--run", str(again.path)]) == 0
    first, second = (read_checkpoint(each.last_checkpoint)["state_dict"] for each in (run, again))
    assert all(torch.allclose(first[name].double(), second[name].double(), atol=1e-4) for name in first)


def test_a_new_run_stores_what_was_measured_and_every_command_reads_it(tmp_path: Path) -> None:
    config = without(yaml.safe_load((KEPT / "config.yaml").read_text()), "stem", "mean", "std")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    folder = RunFolder(tmp_path / "new")
    assert main(["pretrain", "--config", str(tmp_path / "mine.yaml"), "--run", str(folder.path)]) == 0
    written = yaml.safe_load(folder.config.read_text())
    assert written["model"]["init_args"]["backbone"]["init_args"]["stem"] == "large"
    kept = written["data"]["init_args"]
    assert 0.25 < kept["mean"][0] < 0.35 < kept["std"][0] < 0.42
    assert read_checkpoint(folder.last_checkpoint)["contrast"]["config"] == written
    loaded = load_run(folder.path)
    assert (list(loaded.data.standardisation.mean), loaded.data.measured()) == (kept["mean"], {})
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.max_epochs", "2"]) == 0
    after = read_checkpoint(folder.last_checkpoint)["contrast"]["config"]["data"]["init_args"]
    assert (after["mean"], after["std"]) == (kept["mean"], kept["std"])


def test_other_images_are_standardised_as_those_of_the_run(run: RunFolder, tmp_path: Path) -> None:
    data = without(yaml.safe_load(run.config.read_text()), "mean", "std")["data"]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"data": data}))
    assert load_run(run.path, [tmp_path / "other.yaml"]).data.standardisation.mean == (0.5,)
    data["init_args"] |= {"mean": [0.1], "std": [0.2]}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"data": data}))
    assert load_run(run.path, [tmp_path / "other.yaml"]).data.standardisation.mean == (0.1,)
