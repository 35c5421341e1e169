"""Runs that were killed before their first checkpoint: the same line starts them again, from whatever was left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from contrast.cli import main
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL, as_killed_before_its_first_checkpoint, pretrain

ROOT = Path(__file__).parents[2]
ONE_STEP = ["--trainer.max_steps", "1", "--pairs.gallery", "0"]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def the_lock(folder: RunFolder) -> None:
    folder.path.mkdir()
    folder.lock.touch()


def half_a_configuration(folder: RunFolder) -> None:
    the_lock(folder)
    (folder.path / ".config.yaml.7.part").write_text("model:\n  class_pa")


def an_empty_folder_of_checkpoints(folder: RunFolder) -> None:
    folder.checkpoints.mkdir(parents=True)


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (the_lock, []),
        (half_a_configuration, []),
        (half_a_configuration, ["--resume", "auto"]),
        (an_empty_folder_of_checkpoints, ["--resume", "auto"]),
    ],
)
def test_what_a_killed_start_leaves_is_in_nobodys_way(
    left: Callable[[RunFolder], None], words: list[str], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    left(folder)
    assert pretrain(folder.path, *ONE_STEP, *words) == 0
    assert yaml.safe_load(folder.config.read_text())["trainer"]["max_steps"] == 1
    assert not [*folder.path.glob(".*.part")]
    assert folder.last_checkpoint.is_file()


@pytest.mark.parametrize("name", ["a.txt", "checkpoints/mine.ckpt", "checkpoints", ".lock/a", "config.yaml"])
def test_what_is_of_something_else_is_left_alone(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "run" / name
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    assert pretrain(tmp_path / "run") == 2
    assert "is in use" in capsys.readouterr().err
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [precious]


def test_a_run_that_starts_again_is_of_what_is_said_now(tmp_path: Path) -> None:
    """And nothing that it finds in its folder is of the one that was killed."""
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, "--pairs.gallery", 1) == 0
    as_killed_before_its_first_checkpoint(folder)
    (folder.pairs / "epoch-00999.safetensors").touch()
    (folder.pictures / "epoch-00999-0.png").touch()
    precious = folder.path / "notes.txt"
    precious.touch()
    other = ["--model.loss.objective", "DCL", "--seed_everything", "7", "--resume", "auto", *ONE_STEP]
    assert pretrain(folder.path, *other) == 0
    kept = yaml.safe_load(folder.config.read_text())
    assert kept["seed_everything"] == 7
    assert kept["model"]["init_args"]["loss"]["init_args"]["objective"]["class_path"].endswith("DCL")
    assert not [*folder.path.rglob("*00999*")]
    assert not folder.gallery.exists()
    assert precious.exists()
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.max_steps", "2"]) == 0
    assert "DCL" in folder.config.read_text()
    assert [row["step"] for row in read_rows(folder.scores)[1:]] == [1, 2]


def test_of_two_that_start_in_one_folder_one_is_refused_and_takes_nothing_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found it empty before either has it."""
    from contrast.commands import resuming

    folder = RunFolder(tmp_path / "run")

    def locked_by_another(file: int, of: RunFolder) -> None:
        of.config.write_text("theirs")
        raise resuming.InputError("another process is training in it")

    monkeypatch.setattr(resuming, "_lock", locked_by_another)
    assert main(["pretrain", *SMALL, "--run", str(folder.path)]) == 2
    assert "another process is training" in capsys.readouterr().err
    assert folder.config.read_text() == "theirs"
