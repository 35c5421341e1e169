"""Files that once ended in a traceback, a hang or silence."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from contrast.callbacks.pair_history import histories_of
from contrast.cli import main
from contrast.dashboard.runs_folder import RunsFolder
from contrast.records import read_object, read_rows, read_text
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from contrast.runs.status import read_status
from tests.data.formats import write_fashion_mnist
from tests.fuzz.asking import refused, written

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and links are made")


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def itself(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def bytes_only(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def timestamp(path: Path) -> None:
    path.write_text("!!timestamp x" if path.suffix == ".yaml" else "9" * 5000)


STRANGE = [pipe, endless, nested, itself, folder, bytes_only, timestamp]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("finished")
    file = written(place, "mocov2", pairs={"epochs": 1, "gallery": 1})
    assert main(["pretrain", "--config", str(file), "--run", str(place / "run")]) == 0
    assert main(["knn", str(place / "run"), "--neighbours", "5"]) == 0
    return place / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(finished, tmp_path / "runs/run")
    return RunFolder(tmp_path / "runs/run")


@pytest.mark.parametrize("make", [pipe, endless])
def test_images_and_arrays_that_are_no_files(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images/a").mkdir(parents=True)
    for number in range(31):
        Image.new("L", (8, 8), number).save(tmp_path / f"images/a/{number}.png")
    make(tmp_path / "images/a/odd.png")
    for name in ("data.npz", "data.npy", "data.ts"):
        make(tmp_path / name)
    sources = {
        "odd.png": {"class_path": "ImageFolder", "init_args": {"root": str(tmp_path / "images")}},
        "data.npz": {"class_path": "ArrayImages", "init_args": {"path": str(tmp_path / "data.npz")}},
        "data.npy": {"class_path": "ArrayImages", "init_args": {"path": str(tmp_path / "data.npy")}},
        "data.ts": {"class_path": "TsFile", "init_args": {"path": str(tmp_path / "data.ts")}},
    }
    for name, source in sources.items():
        source["class_path"] = f"contrast.data.{source['class_path']}"
        changes = {"data__train": source, "data__test": None, "data__limit": None, "data__batch_size": 16}
        line = refused(capsys, ["pretrain", "--config", written(tmp_path, **changes), "--run", tmp_path / "run"], name)
        assert "pipe or a device" in line


@pytest.mark.parametrize("strange", STRANGE)
def test_a_run_with_strange_files_reads(strange: Callable[[Path], None], run: RunFolder) -> None:
    for name in ("metrics.jsonl", "scores.jsonl", "status.json", "gallery.jsonl", "bank.jsonl", "summary.json"):
        strange(run.path / name)
    assert main(["report", str(run.path)]) == 0
    assert main(["doctor", str(run.path)]) == 0


@pytest.mark.parametrize("strange", [nested, bytes_only, timestamp])
def test_a_run_with_a_strange_configuration_reads(strange: Callable[[Path], None], run: RunFolder) -> None:
    strange(run.config)
    assert main(["report", str(run.path)]) == 0
    assert main(["doctor", str(run.path)]) == 0


@pytest.mark.parametrize("strange", STRANGE)
def test_strange_tensors_and_pictures(strange: Callable[[Path], None], run: RunFolder) -> None:
    for path in [*run.pairs.iterdir(), *run.pictures.iterdir()]:
        strange(path)
    assert main(["report", str(run.path)]) == 0
    assert histories_of(run.pairs, [0], 9) == {0: {"epoch": [], "loss": [], "positive": [], "weight": []}}
    assert RunsFolder(run.path.parent).names() == ["run"]
    # One that leads out of the folder hides the whole run.
    assert (RunsFolder(run.path.parent).run("run") is None) == (strange is endless)


@pytest.mark.parametrize("strange", STRANGE)
def test_the_readers_of_rows_and_objects(strange: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    strange(path)
    assert read_rows(path) == []
    assert read_object(path) is None
    assert read_status(path) is None
    assert (read_text(path) is None) == (strange not in (nested, timestamp))


@pytest.mark.parametrize("strange", [pipe, endless, nested, itself, folder, bytes_only])
def test_an_evaluation_that_is_none_is_refused_by_export(
    strange: Callable[[Path], None], run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    strange(next(run.evaluations.glob("*.json")))
    refused(capsys, ["export", run.path], "not a complete JSON object")


@pytest.mark.parametrize("name", ["optimizer_states", "loops", "lr_schedulers"])
@pytest.mark.parametrize("value", [None, 3, {"class_path": "contrast.cli.main"}, [{}]])
def test_a_checkpoint_with_something_else_inside(
    name: str, value: Any, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_checkpoint(run.last_checkpoint)
    content[name] = value
    write_checkpoint(content, run.last_checkpoint)
    longer = ["--trainer.max_steps", "3", "--trainer.max_epochs", "3"]
    capsys.readouterr()
    code = main(["pretrain", "--resume", str(run.path), *longer])
    error = capsys.readouterr().err
    assert code in (0, 2), error
    assert error.count(": error: ") == (code == 2)
    if code == 2:
        assert "lacks state that a resume needs" in error or "cannot be resumed from" in error


PROGRESS = ("loops", "fit_loop")
INSIDE: list[tuple[Any, ...]] = [
    (*PROGRESS, "state_dict", "combined_loader", 0, "batch"),
    (*PROGRESS, "epoch_loop.state_dict", "_batches_that_stepped"),
    (*PROGRESS, "epoch_loop.batch_progress", "total", "ready"),
    (*PROGRESS, "epoch_loop.batch_progress", "current", "completed"),
    (*PROGRESS, "epoch_progress", "current", "processed"),
    ("lr_schedulers", 0, "base_lrs"),
    ("lr_schedulers", 0, "last_epoch"),
    ("lr_schedulers", 0, "_last_lr", 0),
    ("optimizer_states", 0, "param_groups", 0, "lr"),
    ("optimizer_states", 0, "param_groups", 0, "params"),
    ("optimizer_states", 0, "state", 0),
    ("optimizer_states", 0, "state", 0, "momentum_buffer"),
    ("optimizer_states", 0, "state", 1, "momentum_buffer"),
    ("callbacks", "PairRecorder"),
    ("callbacks", "PairRecorder", "running"),
    ("lr_schedulers",),
    ("contrast", "batch"),
    ("contrast", "batch", "processes"),
    ("contrast", "optimizers"),
    ("state_dict",),
]


OF_ANOTHER_TYPE: list[tuple[tuple[Any, ...], Any]] = [
    *((place, "x") for place in INSIDE),
    *((place, torch.zeros(7)) for place in INSIDE),
    (INSIDE[0], -1),
    (INSIDE[1], None),
    (INSIDE[3], [1]),
    (INSIDE[8], {"a": "x"}),
    (INSIDE[11], 136),
    (INSIDE[11], None),
    (("contrast", "optimizers"), None),
    (("state_dict", None), 1.0),
    (("state_dict", "loss"), "x"),
]


@pytest.mark.parametrize(("place", "value"), OF_ANOTHER_TYPE, ids=lambda each: str(each).replace("'", "")[-60:])
def test_a_checkpoint_whose_training_state_has_another_type(
    place: tuple[Any, ...], value: Any, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_checkpoint(run.last_checkpoint)
    holder: Any = content
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    write_checkpoint(content, run.last_checkpoint)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    longer = ["--trainer.max_steps", "3", "--trainer.max_epochs", "3"]
    refused(capsys, ["pretrain", "--resume", run.path, *longer], "checkpoint")
    assert {path: path.read_bytes() for path in before} == before


def test_weights_that_are_not_finite_are_not_exported(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    content = read_checkpoint(run.last_checkpoint)
    name = next(name for name in content["state_dict"] if name.startswith("backbone.") and name.endswith("weight"))
    content["state_dict"][name].view(-1)[0] = float("nan")
    write_checkpoint(content, run.last_checkpoint)
    refused(capsys, ["export", run.path], "NaN or infinity")
    assert not run.export.exists() or not [*run.export.iterdir()]


@pytest.mark.parametrize("command", [["knn", "--neighbours", "5"], ["probe", "--per-class", "2"]])
def test_features_that_are_not_finite_are_not_kept(
    command: list[str], run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_checkpoint(run.last_checkpoint)
    for tensor in content["state_dict"].values():
        tensor.fill_(float("nan")) if tensor.is_floating_point() else None
    write_checkpoint(content, run.last_checkpoint)
    before = sorted(run.features.iterdir())
    refused(capsys, [command[0], run.path, *command[1:]], "the features hold NaN or infinity")
    assert sorted(run.features.iterdir()) == before


@pytest.mark.parametrize("length", [0, 7, 100])
def test_published_files_that_are_cut(length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fashion_mnist(tmp_path, 32)
    file = tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:length])
    source = {"class_path": "torchvision.datasets.FashionMNIST", "init_args": {"root": str(tmp_path)}}
    changes = {"data__train": source, "data__test": None, "data__limit": None}
    words = ["pretrain", "--config", written(tmp_path, **changes), "--run", tmp_path / "run"]
    refused(capsys, words, "FashionMNIST", "get the files again")


def test_more_workers_than_a_machine_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, value, words in (
        ("data__workers", 2**31, "data.workers 2147483648 is above 512"),
        ("trainer__devices", 10**6, "trainer.devices 1000000 is above 1024"),
        ("trainer__num_nodes", 2, "trainer.num_nodes 2: a run uses one machine"),
        ("trainer__overfit_batches", 1e-80, "trainer: "),
    ):
        file = written(tmp_path, **{path: value})
        refused(capsys, ["pretrain", "--config", file, "--run", tmp_path / "run"], words)
        assert not (tmp_path / "run").exists()


def test_a_row_of_a_step_beyond_all_numbers(run: RunFolder) -> None:
    row = {"step": 10**400, "train/loss": 1.0}
    run.metrics.write_text(json.dumps({"step": 1, "train/loss": 2.0}) + "\n" + json.dumps(row) + "\n")
    assert main(["report", str(run.path)]) == 0
    assert main(["doctor", str(run.path)]) == 0


def test_odd_arrays_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "data.npz", images=np.zeros((32, 9, 9, 3), dtype="M8[D]"), labels=torch.arange(32).numpy())
    source = {"class_path": "contrast.data.ArrayImages", "init_args": {"path": str(tmp_path / "data.npz")}}
    changes = {"data__train": source, "data__test": None, "data__limit": None}
    file = written(tmp_path, **changes)
    assert yaml.safe_load(file.read_text())["data"]["init_args"]["train"] == source
    refused(capsys, ["pretrain", "--config", file, "--run", tmp_path / "run"], "data.npz")
