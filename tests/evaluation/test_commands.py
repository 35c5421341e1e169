"""`contrast probe`, `knn` and `export` on a small run, as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from contrast.cli import main
from contrast.commands.encoder import load_run
from contrast.data import Digits
from contrast.evaluation import features
from contrast.models import ConvNet
from tests.commands.running import pretrain

DIGITS = """
data:
  class_path: ImageData
  init_args:
    train: {class_path: Digits, init_args: {train: true}}
    test: {class_path: Digits, init_args: {train: false}}
    views: {class_path: SimCLRViews, init_args: {size: 8, blur: 0.0}}
    batch_size: 32
    workers: 0
    channels: 3
    limit: 60
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert pretrain(folder) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def _results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "evaluations").iterdir())]


def _last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_a_probe_prints_its_number_and_the_path_of_its_protocol(run, capsys):
    assert main(["probe", str(run), "--per-class", "3", "--seeds", "2"]) == 0
    printed = capsys.readouterr().out
    (result,) = _results(run)
    assert f"top-1 {100 * result['top1']:.2f} %" in printed
    assert "30 labels, 360 test samples" in printed
    assert Path(printed.splitlines()[-1]).is_file()
    assert (result["run"], result["checkpoint"]) == ("run", "checkpoints/last.ckpt")
    assert (result["method"], result["epoch"]) == ("SimCLR", 2)
    assert result["protocol"]["seeds"] == [0, 1]


def test_later_commands_take_the_features_of_the_first(run, monkeypatch):
    assert main(["knn", str(run), "--neighbours", "5"]) == 0

    def refuse(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr(features, "extract", refuse)
    assert main(["knn", str(run), "--neighbours", "7"]) == 0
    assert main(["probe", str(run), "--fraction", "0.5", "--seeds", "1"]) == 0
    assert len(_results(run)) == 3
    assert len(list((run / "features").iterdir())) == 2


def test_the_same_evaluation_keeps_one_file(run):
    for _ in range(2):
        assert main(["probe", str(run), "--per-class", "3", "--seeds", "1"]) == 0
    assert main(["probe", str(run), "--per-class", "3", "--seeds", "2"]) == 0
    assert len(_results(run)) == 2


def test_fine_tuning_leaves_the_run_as_it_is_and_flips_as_pretraining_did(run):
    before = (run / "checkpoints" / "last.ckpt").read_bytes()
    assert main(["probe", str(run), "--finetune", "--per-class", "3", "--seeds", "1", "--epochs", "1"]) == 0
    (result,) = _results(run)
    assert result["command"] == "finetune"
    assert result["protocol"]["fine_tuning"]["flip"] == 0  # as configs/demo.yaml says
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == before


def test_weights_from_elsewhere(tmp_path, capsys):
    torch.manual_seed(0)
    net = torchvision.models.resnet18()
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)  # the stem for small images
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    (tmp_path / "digits.yaml").write_text(DIGITS)
    source = ["--weights", str(tmp_path / "resnet18.pth"), "--data", str(tmp_path / "digits.yaml")]
    output = ["--output", str(tmp_path / "out")]
    assert main(["knn", *source, "--backbone", "resnet18", "--neighbours", "5", *output]) == 0
    (result,) = _results(tmp_path / "out")
    assert result["backbone"]["architecture"] == "resnet18"
    assert result["top1"] > 0.3  # random features tell some digits apart
    capsys.readouterr()
    assert main(["knn", *source, "--backbone", "resnet34", *output]) == 2
    refused = capsys.readouterr().err
    assert "do not fit resnet34" in refused
    assert "layer1.2" in refused  # a key that differs
    assert refused.count("\n") == 1


def test_an_export_is_the_trained_backbone_with_its_own_numbers(run, capsys):
    assert main(["knn", str(run), "--neighbours", "5"]) == 0
    other = _results(run)[0] | {"fingerprint": "of other weights", "top1": 0.0}
    (run / "evaluations" / "other.json").write_text(json.dumps(other))
    assert main(["export", str(run)]) == 0
    weights = Path(_last_line(capsys))
    card = json.loads((weights.parent / "card.json").read_text())
    assert [each["command"] for each in card["evaluations"]] == ["knn"]
    assert card["evaluations"][0]["top1"] > 0
    assert card["method"] == "SimCLR"
    assert card["data"]["samples"] == 96
    assert card["input"]["image_size"] == 8
    plain = ConvNet((4, 8), channels=1, image_size=8)
    plain.load_state_dict(load_file(weights))
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.eval()(images), load_run(run).backbone.eval()(images))


def test_a_damaged_result_is_named(run, capsys):
    (run / "evaluations").mkdir()
    (run / "evaluations" / "cut.json").write_text('{"top1": 0.')
    assert main(["export", str(run)]) == 2
    assert "cut.json' is no whole JSON object" in capsys.readouterr().err


def test_a_checkpoint_outside_a_run_is_exported_where_it_is_told(run, tmp_path, capsys):
    checkpoint = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt")
    assert main(["export", str(checkpoint)]) == 2
    assert "--output FOLDER" in capsys.readouterr().err
    assert main(["export", str(checkpoint), "--output", str(tmp_path / "there")]) == 0
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["backbone.safetensors", "card.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either RUN or --weights"),
        (["RUN", "--weights", "x.pth"], "give either RUN or --weights"),
        (["--weights", "x.pth"], "--weights and --backbone go together"),
        (["RUN", "--fraction", "0.1", "--per-class", "2"], "exclude each other"),
        (["RUN", "--seeds", "0"], "--seeds 0: give at least 1"),
        (["RUN", "--epochs", "3"], "add --finetune"),
        (["RUN", "--fraction", "2"], "fraction of 2.0 labels"),
        (["RUN", "--per-class", "5000"], "5000 labels per class"),
        (["nowhere"], "no run folder 'nowhere'"),
        (["RUN", "--data", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(trained, capsys, words, message):
    assert main(["probe", *(str(trained) if word == "RUN" else word for word in words)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.splitlines()[-1].startswith("contrast probe: error: ")
    assert printed.out == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(trained, capsys):
    assert main(["knn", str(trained), "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["probe", "knn", "export"])
def test_help_shows_an_example(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"contrast {command} runs/first" in capsys.readouterr().out


def test_an_accuracy_belongs_to_all_images_of_the_data_not_to_three_of_them(run, tmp_path, monkeypatch, capsys):
    """Test images are replaced but for the first, the middle and the last one."""
    digits, held_out = Digits(train=True), Digits(train=False)
    images = [np.stack([image[0].numpy() for image, _ in each]) for each in (digits, held_out)]
    for name, pixels, each in zip(("train", "test"), images, (digits, held_out), strict=True):
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=each.labels.numpy())
    sets = "".join(f"    {n}: {{class_path: ArrayImages, init_args: {{path: {n}.npz}}}}\n" for n in ("train", "test"))
    views = "{class_path: SimCLRViews, init_args: {size: 8, blur: 0.0}}"
    text = f"data:\n  class_path: ImageData\n  init_args:\n{sets}    views: {views}\n    channels: 1\n"
    (tmp_path / "data.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)

    def top1() -> float:
        assert main(["knn", str(run), "--neighbours", "5", "--data", "data.yaml"]) == 0
        return float(json.loads(Path(_last_line(capsys)).read_text())["top1"])

    before = top1()
    kept, other = [0, 180, 359], np.random.default_rng(0).integers(0, 256, images[1].shape, dtype=np.uint8)
    other[kept] = images[1][kept]
    np.savez(tmp_path / "test.npz", images=other, labels=held_out.labels.numpy())
    after = top1()
    shutil.rmtree(run / "features")
    assert after == top1() < before / 2
    assert len(_results(run)) == 2  # each with the checksum of its own data
