"""Whatever is given wrongly ends in one line that names the value and the mend, and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrast.cli import main
from tests.commands.running import SMALL, pretrain

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of 40 images, one of them cut short."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        Image.new("L", (8, 8), number * 6).save(folder / f"{number:02d}.png")
    damaged = folder / "07.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    return folder


def folder_of(path: Path) -> list[str]:
    source = f"{{class_path: contrast.data.ImageFolder, init_args: {{root: {path}}}}}"
    return ["--data.train", source, "--data.test", "null", "--data.limit", "null", "--data.batch_size", "16"]


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> None:
    error = capsys.readouterr().err
    lines = [line for line in error.split("\r")[-1].splitlines() if "contrast pretrain: error: " in line]
    assert code == 2, error
    assert len(lines) == 1, error
    assert "Traceback" not in error
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model.loss.temprature", "0.1"], ["no argument 'temprature'", "check its spelling"]),
        (["--modle.loss", "DCL"], ["modle"]),
        (["--trainer.max_epochs", "ten"], ["trainer.max_epochs", "'ten' is not an integer"]),
        (["--data.batch_size", "many"], ["batch_size", "'many' is not an integer"]),
        (["--model.loss.temperature", "-0.1"], ["temperature -0.1 is not above 0"]),
        (["--model.loss.objective", "DLC"], ["no class 'DLC'", "did you mean 'DCL'"]),
        (["--data.batch_size", "1"], ["batch_size 1 leaves no negatives", "at least 2"]),
        (["--data.batch_size", "97"], ["batch_size 97", "96 training samples"]),
        (["--model.backbone", "ResNot"], ["no class 'ResNot'", "did you mean 'ResNet'"]),
        (["--model.backbone", "{class_path: ResNet, init_args: {name: resnet19}}"], ["resnet19", "did you mean"]),
        (["--model", "MoCo"], ["65536", "96", "--model.bank.size"]),
        (["--trainer.max_epochs", "-1"], ["trainer.max_epochs"]),
        (["--trainer.accelerator", "abacus"], ["abacus"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["--model.loss.objective"], ["--model.loss.objective has no value"]),
        (["surprise"], ["'surprise' does not belong to a flag"]),
        (["mine.yaml"], ["'mine.yaml' does not belong to a flag: did you mean --config mine.yaml?"]),
        (["--confg", "mine.yaml"], ["--confg: no flag", "did you mean --config?"]),
        (["--rum", "runs/a"], ["--rum: no flag", "did you mean --run?"]),
        (["--modle", "SimCLR"], ["did you mean --model?"]),
        (["--trainr.max_epochs", "3"], ["--trainr.max_epochs: no flag", "did you mean --trainer?"]),
        (["--trainer.accumulate_grad_batches", "0"], ["trainer.accumulate_grad_batches 0 is below 1"]),
        (["--data.limit", "1", "--data.batch_size", "32"], ["1 training samples", "raise data.limit to 32 or more"]),
        (["--trainer.accelerator", "abacus"], ["trainer.accelerator abacus", "give --trainer.accelerator cpu or auto"]),
        (["--trainer.devices", "0"], ["trainer.devices 0", "give --trainer.devices 1 or auto"]),
        (["--trainer.devices", "banana"], ["trainer.devices banana", "give --trainer.devices 1 or auto"]),
        (["--trainer.strategy", "banana"], ["trainer.strategy banana", "give --trainer.strategy auto or ddp"]),
        (["--data.test.train", "maybe"], ["'maybe' is not true or false"]),
        (["--model.loss", "os.system"], ["os.system"]),
        (["--data.views.size", "0"], ["size"]),
        (["--trainer.precision", "64-true"], ["trainer.precision 64-true", "32-true"]),
        (["--model.help", "Nope"], ["Nope"]),
        (["--model.help", "SimCLR", "more"], ["unrecognized arguments: more", "ask for one class"]),
        (["--model.help", "--model.help", ""], ["unrecognized arguments", "ask for one class"]),
        (["--data.help", "--data.help", "Digits"], ["unrecognized arguments: Digits", "ask for one class"]),
    ],
)  # fmt: skip
def test_configurations(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, pretrain(tmp_path / "run", *arguments), *words)
    assert not (tmp_path / "run").exists()  # nothing in the way of the next try


@pytest.mark.parametrize("file", [["--config", "configs/trainer/ddp.yaml"], ["--trainer.sync_batchnorm", "true"]])
def test_synchronised_batch_norm_would_remove_the_split_one(
    file: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for every method with split norms, whatever asks for the synchronised ones."""
    here = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"]
    given = [
        "--model",
        "MoCo",
        "--model.bank.size",
        "64",
        "--model.backbone",
        "ConvNet",
        "--model.backbone.widths",
        "[4]",
    ]
    given += [
        "--model.batch_norm_groups",
        "4",
        "--model.head",
        "LinearHead",
        *file,
        *here,
        "--trainer.precision",
        "32-true",
    ]
    refused(
        capsys, pretrain(tmp_path / "run", *given), "sync_batchnorm true", "4 groups", "--trainer.sync_batchnorm false"
    )


def watching(name: str, monitor: str) -> list[str]:
    return [
        "--trainer.callbacks",
        f"[{{class_path: lightning.pytorch.callbacks.{name}, init_args: {{monitor: {monitor}}}}}]",
    ]


@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint"])
def test_a_metric_that_is_not_recorded(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = pretrain(tmp_path / "run", *watching(name, "val_loss"))
    refused(capsys, code, f"{name} monitors 'val_loss'", "not recorded", "train/loss", "online/knn_top1")
    assert not (tmp_path / "run").exists()


def test_a_metric_that_is_found_missing_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run", *watching("EarlyStopping", "train/lose")) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "monitors 'train/lose', which is not recorded: give one of" in error.splitlines()[-1]
    assert "train/loss" in error.splitlines()[-1]


@pytest.mark.parametrize("monitor", ["train/loss", "online/knn_top1"])
@pytest.mark.parametrize("name", ["EarlyStopping", "ModelCheckpoint"])
def test_recorded_metrics_can_be_monitored(name: str, monitor: str, tmp_path: Path) -> None:
    assert pretrain(tmp_path / "run", *watching(name, monitor)) == 0


def test_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, pretrain(tmp_path / "run", *folder_of(tmp_path / "none")), str(tmp_path / "none"))


def test_missing_files_of_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{{class_path: torchvision.datasets.CIFAR10, init_args: {{root: {tmp_path}}}}}"
    refused(capsys, pretrain(tmp_path / "run", "--data.train", source), "download")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image(workers: int, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = pretrain(images.parent / "run", *folder_of(images), "--data.workers", workers)
    refused(capsys, code, str(images / "07.png"), "on_corrupt: skip")


def test_a_corrupt_image_is_skipped_on_request(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(images.parent / "run", *folder_of(images), "--data.train.on_corrupt", "skip") == 0
    assert "39 training images" in capsys.readouterr().err


def test_a_run_folder_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    kept = folder / "precious.txt"
    kept.write_text("kept")
    refused(capsys, pretrain(folder), str(folder), "--run", "another name")
    assert [*folder.iterdir()] == [kept]


def test_a_checkpoint_of_another_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert pretrain(folder) == 0
    capsys.readouterr()
    code = main(["pretrain", "--resume", str(folder), "--model.backbone.widths", "[4, 16]"])
    refused(capsys, code, "another architecture", "last.ckpt", "size mismatch")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert pretrain(folder) == 0
    checkpoint = folder / "checkpoints/last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000] if content is None else content)
    (folder / "checkpoints/previous.ckpt").unlink()
    capsys.readouterr()
    refused(capsys, main(["pretrain", "--resume", str(folder)]), "last.ckpt", "damaged")


def test_a_checkpoint_that_would_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "sprung",))

    folder = tmp_path / "run"
    assert pretrain(folder) == 0
    for name in ("last", "previous"):
        torch.save({"state_dict": Trap()}, folder / f"checkpoints/{name}.ckpt")
    capsys.readouterr()
    refused(capsys, main(["pretrain", "--resume", str(folder)]), "last.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_a_model_without_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = ["--config", "configs/data/digits.yaml", "--config", "configs/experiment/digits_simclr.yaml"]
    code = main(["pretrain", *experiment, "--run", str(tmp_path / "run")])
    refused(capsys, code, "model has no class", "--model SimCLR")


def test_an_unknown_command_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrian"]) == 2
    assert "did you mean 'pretrain'" in capsys.readouterr().err
    assert main([]) == 0
    assert "usage: contrast COMMAND" in capsys.readouterr().out


def test_flags_have_no_abbreviations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, main(["pretrain", *SMALL, "--run", str(tmp_path / "run"), "--trainer.max_e", "1"]), "max_e")


@pytest.mark.parametrize("command", ["probe", "knn", "report", "doctor", "dashboard", "duplicates", "export", "demo"])
def test_every_command_refuses_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "runs/none", "--no-such-flag"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"contrast {command}: error: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        (["--help"], ""),
        (["--version"], "1"),
        (["knn", "--help"], ""),
        (["pretrain", "--print_config"], ""),
        (["pretrain", "--print_config"], "1"),
    ],
)
def test_a_full_standard_output_is_named(words: list[str], unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "contrast.cli", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert "error: standard output cannot be written (No space left on device)" in lines[0]


PIXELS = np.full((40, 8, 8), 0.5, dtype=np.float32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.where(np.arange(64).reshape(8, 8) == 3, np.nan, PIXELS)}, ["is nan", "replace missing"]),
        ({"images": PIXELS - 2.5}, ["is -2.0", "leave normalisation to data.mean", "data.mean"]),
        ({"images": PIXELS * 5}, ["is 2.5", "leave normalisation to data.mean"]),
        ({"images": PIXELS * 300}, ["is 150.0", "divide 8-bit values by 255"]),
        ({"images": PIXELS[:0]}, ["holds no images", "(0, 8, 8) is empty"]),
        ({"x": PIXELS, "y": np.zeros(40, dtype=np.int64)}, ["holds no array 'images'", "as in images: x"]),
    ],
)
def test_arrays_that_are_no_images(
    arrays: dict[str, np.ndarray], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    source = f"{{class_path: ArrayImages, init_args: {{path: {tmp_path / 'mine.npz'}, labels: null}}}}"
    code = pretrain(tmp_path / "run", "--data.train", source, "--data.test", "null", "--data.limit", "null")
    refused(capsys, code, *words)
