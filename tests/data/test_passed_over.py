"""Folders inside a data folder that are no data: of runs, of archive programs and of file systems."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from contrast.cli import main
from contrast.commands.building import TrainingFacts
from contrast.data import ImageFolder
from tests.commands.running import SMALL

SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "#recycle", "__pycache__")
HIDDEN = (".ipynb_checkpoints", ".DS_Store", ".git")


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), sum(map(ord, str(path))) % 256).save(path)


def _photos(root: Path, count: int = 12) -> Path:
    for number in range(count):
        _picture(root / ("cat", "dog")[number % 2] / f"{number}.png")
    return root


def _run_folder(path: Path, mark: str = "status.json") -> None:
    _picture(path / "gallery" / "0000001.png")
    (path / "config.yaml").write_text("seed_everything: 0\n")
    (path / mark).touch()


def _output_folder(path: Path) -> None:
    """What `contrast duplicates --weights` leaves."""
    _picture(path / "duplicates" / "within_train.png")
    (path / "duplicates" / "duplicates.json").write_text("{}")


READERS: dict[str, Callable[[Path], Any]] = {
    "ours": ImageFolder,
    "ours, packed": lambda root: ImageFolder(root, cache=root.parent / "a.pack"),
    "torchvision's": lambda root: TrainingFacts()._build_set(TorchvisionFolder, root=str(root)),
}


def _paths(made: Any) -> list[tuple[str, int]]:
    paths = made.paths if isinstance(made, ImageFolder) else [path for path, _ in made.samples]
    labels = made.labels if isinstance(made, ImageFolder) else made.targets
    return [("/".join(Path(path).parts[-2:]), label) for path, label in zip(paths, labels, strict=True)]


INSIDE: dict[str, Callable[[Path], None]] = {
    **{
        f"a run, {mark}": lambda root, mark=mark: _run_folder(root / "first", mark) for mark in ("status.json", ".lock")
    },
    "runs": lambda root: _run_folder(root / "runs" / "first"),
    "runs of runs": lambda root: _run_folder(root / "runs" / "sweep" / "first"),
    "a run in a class": lambda root: _run_folder(root / "cat" / "runs" / "first"),
    "an output folder": lambda root: _output_folder(root / "moco_v2"),
    **{name: lambda root, name=name: _picture(root / name / "._1.png") for name in SYSTEM},
    **{f"{name} with pictures": lambda root, name=name: _picture(root / name / "cat" / "1.png") for name in SYSTEM},
    **{name: lambda root, name=name: _picture(root / name / "1.png") for name in HIDDEN},
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("inside", INSIDE)
def test_what_is_no_data_is_passed_over_with_a_note(inside, reader, tmp_path, caplog):
    root = _photos(tmp_path / "photos")
    expected = _paths(READERS[reader](root))
    INSIDE[inside](root)
    with caplog.at_level(logging.WARNING):
        made = READERS[reader](root)
    assert _paths(made) == expected
    assert list(made.classes) == ["cat", "dog"]
    quiet = inside in HIDDEN and reader != "torchvision's"  # names with a dot never were data
    assert ("skipped in" in caplog.text) is not quiet


def test_without_classes_a_runs_pictures_are_no_samples(tmp_path):
    for number in range(3):
        _picture(tmp_path / f"{number}.png")
    _run_folder(tmp_path / "runs" / "first")
    folder = ImageFolder(tmp_path, class_folders=False)
    assert [Path(path).name for path in folder.paths] == ["0.png", "1.png", "2.png"]


def test_a_class_folder_with_a_configuration_of_its_own_is_data(tmp_path):
    root = _photos(tmp_path)
    (root / "cat" / "config.yaml").write_text("")
    assert len(ImageFolder(root)) == 12


def test_a_class_of_torchvisions_without_a_picture_is_still_refused(tmp_path):
    root = _photos(tmp_path)
    _run_folder(root / "runs" / "first")
    (root / "ant").mkdir()
    with pytest.raises(ValueError, match="ant"):
        TrainingFacts()._build_set(TorchvisionFolder, root=str(root))


@pytest.mark.parametrize("reader", ["contrast.data.ImageFolder", "torchvision.datasets.ImageFolder"])
def test_runs_in_a_folder_inside_the_data_folder_do_not_train_on_themselves(reader, tmp_path, capsys):
    """The first run makes a folder of its own there before the data are read; the second would take its gallery."""
    root = _photos(tmp_path / "photos")
    flags = ["--data.train", f"{{class_path: {reader}, init_args: {{root: {root}}}}}", "--data.test", "null"]
    flags += ["--data.limit", "null", "--data.batch_size", "6", "--trainer.max_epochs", "2"]
    for name in ("first", "second"):
        assert main(["pretrain", *SMALL, *flags, "--run", str(root / "runs" / name)]) == 0
        said = capsys.readouterr().err
        assert "12 training images" in said
    assert len(list((root / "runs" / "first" / "gallery").glob("*.png"))) > 12
