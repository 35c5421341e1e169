"""`contrast probe`, `knn` and `export` on a small run, as typed."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from contrast import evaluation
from contrast.cli import main
from contrast.commands.loading import load_run
from contrast.dashboard.listing import Listing
from contrast.dashboard.runs_folder import RunsFolder
from contrast.data import Digits
from contrast.doctor import examine
from contrast.evaluation import features
from contrast.models import ConvNet
from contrast.report import build_page, read_runs
from contrast.report.overview import key_numbers
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL, pretrain

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
    assert f"balanced accuracy {100 * result['balanced_accuracy']:.2f} %" in printed
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
    assert len(list((run / "features").iterdir())) == 6  # encoder, raw input and random weights, of train and test


@pytest.fixture(scope="module")
def measured(trained, tmp_path_factory):
    """A run below raw pixels, evaluated by kNN, and what the command said."""
    run = Path(shutil.copytree(trained, tmp_path_factory.mktemp("below") / "run"))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["knn", str(run), "--neighbours", "5"]) == 0
    return run, said.getvalue()


def test_a_number_without_its_reference_is_shown_nowhere(measured):
    """An encoder below raw pixels is flagged by the command, the JSON, the page, the list and the doctor."""
    run, said = measured
    (result,) = _results(run)
    raw = result["baselines"]["raw_input"]
    assert result["top1"] < raw["top1"]
    assert raw["difference"] == pytest.approx(result["top1"] - raw["top1"])
    assert raw["difference_interval"][1] < 0
    # The command: an aligned table and a note.
    names = ["majority class", "raw pixels", "random weights"]
    rows = [line for line in said.splitlines() if line[:18].strip() in names]
    assert [line[:18].strip() for line in rows] == names
    assert all(line[17] == " " != line[18] and line[45] == " " != line[46] for line in rows), "columns are aligned"
    assert f"{100 * raw['difference']:+.2f} [" in rows[1]
    assert "  note: below raw pixels: -" in said
    assert any(note.startswith("below raw pixels: -") for note in result["notes"])
    # The report: the card, the row, and what the doctor says at the top.
    page = build_page(read_runs([RunFolder(run)]))
    points = f"{100 * raw['difference']:+.1f}".replace("-", "\N{MINUS SIGN}")
    card = next(card for card in key_numbers(read_runs([RunFolder(run)])[0]) if card.label.startswith("kNN"))
    assert card.detail.startswith(points)
    assert f"points against raw pixels, the best baseline ({100 * raw['top1']:.1f}" in card.detail
    assert 'class="beaten"' in page
    assert "below-raw-input" in page
    # The dashboard's list.
    (row,) = Listing(RunsFolder(run.parent)).rows()
    assert f'<span class="detail under below">{points} against raw pixels</span>' in row.html
    # The doctor.
    finding = next(each for each in examine(RunFolder(run)).findings if each.rule == "below-raw-input")
    assert finding.severity == "problem"
    assert points in finding.seen
    assert "Differences between losses cannot show" in finding.fix


def test_every_baseline_in_the_file_has_a_protocol(measured):
    (result,) = _results(measured[0])
    for name, baseline in result["baselines"].items():
        assert baseline["protocol"]["test_samples"] == 360, name
        assert baseline["protocol"]["data"]["test"]["samples"] == 360
        assert baseline["top1_interval"][0] <= baseline["top1"] <= baseline["top1_interval"][1]
        assert baseline["encoder_top1"] == result["top1"]
        assert baseline["per_seed"][0]["balanced_accuracy"] >= 0
    assert result["baselines"]["random_weights"]["weights"] == "random, seed 0"
    assert "3,072" not in result["baselines"]["raw_input"]["architecture"]  # 64 pixels need no average


def test_random_weights_are_those_that_the_run_started_from(measured):
    """The kNN before the first step saw the same network on the same data."""
    run, _ = measured
    loaded = load_run(run)
    assert loaded.untrained.fingerprint != loaded.encoder.fingerprint
    assert loaded.untrained.backbone.describe() == loaded.backbone.describe()
    started = [load_run(run).untrained.fingerprint for _ in range(2)]
    assert started[0] == started[1] == loaded.untrained.fingerprint


def test_baselines_can_be_left_out(run, capsys):
    assert main(["knn", str(run), "--neighbours", "5", "--no-baselines"]) == 0
    printed = capsys.readouterr().out
    assert "baselines: none measured (--no-baselines)" in printed
    assert len(list((run / "features").iterdir())) == 2
    (result,) = _results(run)
    assert "baselines" not in result
    page = build_page(read_runs([RunFolder(run)]))
    assert "no baselines measured" in page
    (row,) = Listing(RunsFolder(run.parent)).rows()
    assert "no baselines measured" in row.html


def test_the_encoders_number_is_kept_where_its_baselines_are_interrupted(run, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "measure_baselines", stop)
    with contextlib.suppress(KeyboardInterrupt):
        main(["knn", str(run), "--neighbours", "5"])
    (result,) = _results(run)
    assert result["top1"] > 0


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
    assert list(result["baselines"]) == ["majority_class", "raw_input"]
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
    capsys.readouterr()
    assert main(["export", str(run)]) == 0
    printed = capsys.readouterr()
    assert (
        "neither torchvision nor timm has this convnet: the card's `rebuild` needs the contrast package" in printed.err
    )
    weights = Path(printed.out.splitlines()[-1])
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
    assert "cut.json' is not a complete JSON object" in capsys.readouterr().err


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
        (["RUN", "--epochs", "3"], "need --finetune: add it"),
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


def test_numbers_of_other_data_than_the_encoder_was_trained_on_say_so(tmp_path, capsys):
    """The file of a run's own training images is replaced after the run."""
    words = [*SMALL, "--data.train.class_path", "ArrayImages", "--data.train.path", str(tmp_path / "train.npz")]
    images = np.random.default_rng(0).integers(0, 256, (96, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(96) % 10)
    run = tmp_path / "run"
    assert main(["pretrain", *words, "--run", str(run)]) == 0

    def card(folder):
        assert main(["export", str(run), "--output", str(tmp_path / folder)]) == 0
        return json.loads((tmp_path / folder / "card.json").read_text())["data"], capsys.readouterr().err

    data, said = card("same")
    assert "note    the training data" not in said
    for name, other in (("another", 255 - images), ("more", np.concatenate([images, images[:4]]))):
        np.savez(tmp_path / "train.npz", images=other, labels=np.arange(len(other)) % 10)
        now, said = card(name)
        assert "the training data differ from the checkpoint's" in said
        assert (now["samples"], now["contents"]) == (96, load_run(run).trained_on.contents)
        assert now["samples"] == data["samples"]
    assert main(["knn", str(run), "--neighbours", "5", "--no-baselines"]) == 0
    note = "the train set differs from the set that the encoder was pretrained on"
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert any(note in each for each in json.loads(path.read_text())["notes"])
    assert note in build_page(read_runs([RunFolder(run)]))
