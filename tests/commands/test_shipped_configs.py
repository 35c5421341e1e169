"""Every configuration that is shipped does what its first line says, on small files of the published formats."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torchvision
import yaml

from contrast.cli import main
from contrast.commands.configuration import compose
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.data.formats import (
    own_checksums,
    write_cifar10,
    write_cifar100,
    write_fashion_mnist,
    write_imagenet_folder,
    write_stl10,
)

ROOT = Path(__file__).parents[2]
EVERY = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
EXPERIMENTS = [name for name in EVERY if name.startswith("configs/experiment/")]
SERIES = [name for name in EXPERIMENTS if "class_path: SeriesData" in (ROOT / name).read_text()]
OVERLAYS = [name for name in EVERY if name.startswith(("configs/logger/", "configs/loss/", "configs/trainer/"))]
METHODS = ("simclr", "mocov1", "mocov2", "mocov2plus")
OTHERS = {
    "nnclr": "NNCLR",
    "mocov3": "MoCoV3",
    "simsiam": "SimSiam",
    "byol": "BYOL",
    "barlow_twins": "TwoView",
    "vicreg": "TwoView",
    "supcon": "SimCLR",
    "look": "MoCo",
}
"""Further methods, on the digits alone, and their classes."""
SETS = ("digits", "fashion_mnist", "cifar10", "cifar100", "stl10", "imagenet100", "imagenet")

IMAGES = 40
SMALLER = [
    *("--data.batch_size", "16", "--data.workers", "0"),
    *("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "1"),
    *("--model.backbone.name", "resnet18", "--model.backbone.base_width", "16"),
    *("--metrics.every_n_steps", "1", "--scores.every_n_steps", "1"),
]
FEWER = ["--data.limit", "100"]
"""Of the digits, of which there are more than the small files of the others have."""


def first_line(name: str) -> str:
    return (ROOT / name).read_text().splitlines()[0]


def command(name: str) -> list[str]:
    """The words after `contrast` of the command in a file's first line."""
    program, *words = shlex.split(first_line(name).removeprefix("# "))
    assert program == "contrast"
    return words


def files(words: list[str]) -> list[str]:
    return [value for flag, value in itertools.pairwise(words) if flag == "--config"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with configs/ and every data set, small, under data/."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "configs").symlink_to(ROOT / "configs")
    data = folder / "data"
    for write in (write_cifar10, write_stl10, write_fashion_mnist):
        write(data, IMAGES)
    write_cifar100(data, 100)  # an image of every class
    for name in ("imagenet", "imagenet100"):
        write_imagenet_folder(data / name, IMAGES)
    with ExitStack() as sums:
        for name in ("CIFAR10", "CIFAR100", "STL10"):
            sums.enter_context(own_checksums(getattr(torchvision.datasets, name), data))
        yield folder


def test_every_method_has_an_experiment_on_every_set() -> None:
    expected = {f"configs/experiment/{data}_{method}.yaml" for data in SETS for method in ("simclr", "mocov2")}
    assert expected | {f"configs/experiment/digits_{method}.yaml" for method in OTHERS} <= set(EXPERIMENTS)
    assert {f"configs/method/{name}.yaml" for name in (*METHODS, *OTHERS)} == {
        name for name in EVERY if "/method/" in name
    }


@pytest.mark.parametrize("name", EVERY)
def test_the_first_line_says_what_a_file_is(name: str) -> None:
    line = first_line(name)
    assert re.match(r"# \S.{20,}", line)
    if name in EXPERIMENTS:
        assert line.startswith("# contrast pretrain --config configs/")
        assert files(command(name))[-1] == name
        assert (ROOT / name).read_text().splitlines()[1].startswith("# ")
    if name in OVERLAYS:
        assert line.startswith(f"# Overlay: --config {name}. ")


def leaves(config: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(config, dict | list):
        for key, value in config.items() if isinstance(config, dict) else enumerate(config):
            yield from leaves(value, (*path, key))
    else:
        yield path, config


def assert_resolved(said: Any, resolved: Any) -> None:
    """What a file says is in the resolved configuration; a class may have got its module before its name."""
    found = dict(leaves(resolved))
    for path, value in leaves(said):
        if path[-1] == "class_path":
            assert found[path].rpartition(".")[2] == value.rpartition(".")[2], path
        else:
            assert found[path] == value, path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_an_experiment_says_is_what_is_resolved(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    words = command(name)
    assert compose([Path(file) for file in files(words)], ()).notes == []  # no file drops what an earlier one said
    assert main([*words, "--print_config"]) == 0
    assert_resolved(yaml.safe_load((ROOT / name).read_text()), yaml.safe_load(capsys.readouterr().out))


def unexpected_notes(said: str) -> list[str]:
    """Notes at the start but those of a run as short as these: warm-ups and starts that it never reaches."""
    notes = [line for line in said.splitlines() if line.startswith("note ")]
    return [note for note in notes if "and this run has" not in note]


@pytest.mark.parametrize("name", SERIES)
def test_an_experiment_with_series_trains(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    folder = RunFolder(place / "runs" / Path(name).stem)
    smaller = ["--trainer.max_epochs", "2", "--model.backbone.blocks", "[1, 1]", "--metrics.every_n_steps", "1"]
    assert main([*command(name), *smaller, "--online_knn.every_n_epochs", "1", "--run", str(folder.path)]) == 0
    said = capsys.readouterr().err
    assert unexpected_notes(said) == []
    assert "method  SimCLR, ResNet1d" in said
    rows = read_rows(folder.metrics)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    assert any("online/knn_top1" in row for row in rows)


def test_a_set_of_series_may_be_another(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("japanese_vowels", "basic_motions"):
        overlay = f"configs/data/{name}.yaml"
        assert main([*command(SERIES[0]), "--config", overlay, "--print_config"]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert_resolved(yaml.safe_load((ROOT / overlay).read_text()), yaml.safe_load(printed.out))


@pytest.mark.parametrize(
    "name", [name for name in EXPERIMENTS if name.endswith(("_simclr.yaml", "_mocov2.yaml")) and name not in SERIES]
)
def test_an_experiment_trains(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words, folder = command(name), RunFolder(place / "runs" / Path(name).stem)
    smaller = list(SMALLER)
    if "digits" in name:
        smaller += FEWER
    if "imagenet" in name:
        smaller += ["--data.views.size", "96"]  # the smallest round size at which the stem is still that of 224
    if "mocov2" in name:
        smaller += ["--model.bank.size", "24"]
    assert main([*words, *smaller, "--online_knn.every_n_epochs", "1", "--run", str(folder.path)]) == 0
    said = capsys.readouterr().err
    assert unexpected_notes(said) == []
    assert ("method  MoCo, ResNet" if "mocov2" in name else "method  SimCLR, ResNet") in said
    rows = read_rows(folder.metrics)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert [row["step"] for row in rows if "train/loss" in row] == [1, 2]
    assert all(math.isfinite(loss) for loss in losses)
    gauged = any("online/knn_top1" in row for row in rows)
    assert gauged == ("stl10" not in name)  # of whose training images most have no label
    config = yaml.safe_load(folder.config.read_text())
    negatives = 24 if "mocov2" in name else 30
    queries = 16 if "mocov2" in name else 32
    first = read_rows(folder.scores)[1]
    assert sum(first["positive"]["counts"]) == queries
    real = sum(first["negative"]["counts"]) if "negative" in first else 0
    placeholders = first.get("placeholders", {"mean": 0})["mean"]  # rows that a queue starts with are told apart
    assert real + queries * placeholders == queries * negatives
    assert config["trainer"]["max_epochs"] == 1
    assert folder.last_checkpoint.is_file()


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("experiment", [True, False], ids=["experiment", "method alone"])
def test_another_method_trains(
    method: str, experiment: bool, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    folder = RunFolder(place / "runs" / f"{method}_{experiment}")
    words = command(f"configs/experiment/digits_{method}.yaml")
    if not experiment:
        words = [*words[:-2], "--data.views", "SimCLRViews", "--data.views.size", "8"]
        if method in ("barlow_twins", "vicreg"):  # of 140 million weights otherwise
            words += ["--model.head.hidden_width", "64", "--model.head.output_width", "64"]
    bank = ["--model.bank.size", "24"] if method in ("nnclr", "look") else []
    assert main([*words, *SMALLER, *FEWER, *bank, "--run", str(folder.path)]) == 0
    said = capsys.readouterr().err
    assert unexpected_notes(said) == []
    assert f"method  {OTHERS[method]}, ResNet" in said
    losses = [row["train/loss"] for row in read_rows(folder.metrics) if "train/loss" in row]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize(
    ("files", "views", "queries"),
    [
        (["simclr"], "SimCLRViews", 32),
        (["mocov1"], "MoCoV1Views", 16),
        (["mocov2"], "MoCoV2Views", 16),
        (["mocov2", "mocov2plus"], "MoCoV2Views", 32),
    ],
    ids=METHODS,
)
def test_a_method_needs_no_experiment(
    files: list[str], views: str, queries: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    folder = RunFolder(place / "runs" / f"method_{files[-1]}")
    words = [word for name in files for word in ("--config", f"configs/method/{name}.yaml")]
    words += ["--config", "configs/data/digits.yaml", "--data.views", views, "--data.views.size", "8"]
    bank = [] if views == "SimCLRViews" else ["--model.bank.size", "24"]
    assert main(["pretrain", *words, *SMALLER, *FEWER, *bank, "--run", str(folder.path)]) == 0
    first = read_rows(folder.scores)[1]
    assert sum(first["positive"]["counts"]) == queries


def test_a_run_on_stl10_is_evaluated_on_its_labelled_images(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    run = place / "runs/evaluated"
    words = command("configs/experiment/stl10_simclr.yaml")
    assert main([*words, *SMALLER, "--trainer.limit_train_batches", "1", "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["knn", str(run), "--data", "configs/data/stl10_labelled.yaml", "--neighbours", "5"]) == 0
    assert f"{IMAGES} labels, {IMAGES} test samples" in capsys.readouterr().out


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_lies_over_the_demo(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main([*command("configs/demo.yaml"), "--config", name, "--print_config"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert_resolved(yaml.safe_load((ROOT / name).read_text()), yaml.safe_load(printed.out))


SMALL_PIECES = {
    "hard_negative_mixing": (
        "hardest: 1024, pairs: 1024, queries: 128, start_epoch: 10",
        "hardest: 16, pairs: 6, queries: 3, start_epoch: 0",
    ),
    "bad_pair_mining": ("warmup_epochs: 50, noisy: 2.0, faulty: 3.0", "warmup_epochs: 1, noisy: 0.5, faulty: 0.5"),
}


@pytest.mark.parametrize("method", ["simclr", "mocov2"])
@pytest.mark.parametrize("name", [name for name in OVERLAYS if name.startswith("configs/loss/")])
def test_a_loss_trains_on_simclr_and_moco(
    name: str, method: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text((ROOT / name).read_text().replace(*SMALL_PIECES.get(Path(name).stem, ("", ""))))
    folder = RunFolder(tmp_path / "run")
    words = command(f"configs/experiment/digits_{method}.yaml")
    bank = ["--model.bank.size", "24"] if method == "mocov2" else []
    words += ["--config", str(overlay), *SMALLER, *FEWER, *bank, "--trainer.max_epochs", "2"]
    assert main([*words, "--run", str(folder.path)]) == 0
    rows = [row for row in read_rows(folder.metrics) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(math.isfinite(row["train/loss"]) for row in rows)
    assert main(["knn", str(folder.path), "--neighbours", "5"]) == 0


def test_help_names_configurations_that_there_are() -> None:
    sources = [ROOT / "contrast/cli.py", *(ROOT / "contrast/commands").glob("*.py")]
    named = {name for source in sources for name in re.findall(r"configs/[\w/]+\.yaml", source.read_text())}
    assert named
    assert named <= set(EVERY)
