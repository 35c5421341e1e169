"""Whole evaluations on the digits: every number with its protocol, none chosen on test data."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from contrast.data import Digits, ImageData, Standardisation
from contrast.data.views import SimCLRViews
from contrast.errors import InputError
from contrast.evaluation import (
    Encoder,
    FineTuning,
    evaluate_finetuning,
    evaluate_knn,
    evaluate_probe,
    fingerprint,
    knn_top1,
    raw_input,
    with_backbone,
    write_result,
)
from contrast.models import ConvNet

CPU = torch.device("cpu")
STATED = {
    "data", "train_samples", "test_samples", "transform", "metric", "features", "classifier", "selection", "seeds",
    "interval",
}  # fmt: skip


class GarbageLabels(Dataset):
    """The test digits, each with the label of the next class."""

    def __init__(self) -> None:
        self._digits = Digits(train=False)
        self.labels = (self._digits.labels + 1) % 10

    def __len__(self) -> int:
        return len(self._digits)

    def __getitem__(self, index: int):
        return self._digits[index][0], int(self.labels[index])


def _data(test: Dataset | None = None) -> ImageData:
    test = Digits(train=False) if test is None else test
    views = SimCLRViews(size=8, blur=0.0)
    return ImageData(Digits(), views=views, test=test, batch_size=64, workers=0, channels=1, limit=300)


def _convnet() -> Encoder:
    torch.manual_seed(0)
    net = ConvNet((4, 8), channels=1, image_size=8)
    return Encoder(net, 8, (1, 8, 8), Standardisation((0.5,), (0.25,)), fingerprint(net), {"architecture": "convnet"})


def _pixels() -> Encoder:
    return raw_input(_convnet())


def test_the_probe_states_its_protocol(tmp_path):
    result = evaluate_probe(_pixels(), _data(), tmp_path, CPU, range(3), per_class=10, told={"run": "first"})
    assert result.protocol.keys() >= STATED | {"fraction", "per_class"}
    assert (result.protocol["train_samples"], result.protocol["test_samples"]) == (100, 360)
    assert result.protocol["seeds"] == [0, 1, 2]
    assert result.protocol["data"]["test"]["set"].endswith("Digits")
    assert "held-out 20 %" in result.protocol["selection"]
    assert result.encoder == {"run": "first", "architecture": "raw input, standardised"}
    assert [choice.keys() for choice in result.chosen] == [{"seed", "l2", "held_out_accuracy"}] * 3
    assert 0.7 < result.interval.low < result.interval.mean < result.interval.high < 1
    content = json.loads(write_result(tmp_path, result).read_text())
    assert content["top1"] == pytest.approx(sum(seed["top1"] for seed in content["per_seed"]) / 3)


def test_one_label_a_class_is_said_to_choose_nothing(tmp_path):
    result = evaluate_probe(_pixels(), _data(), tmp_path, CPU, [0], per_class=1)
    assert result.protocol["selection"].startswith("none")
    assert result.chosen == [{"seed": 0, "l2": 0.01, "held_out_accuracy": None}]
    assert "one seed" in result.protocol["interval"]


def test_garbage_test_labels_change_no_choice_of_the_probe(tmp_path):
    honest = evaluate_probe(_pixels(), _data(), tmp_path, CPU, range(2), fraction=0.5)
    fooled = evaluate_probe(_pixels(), _data(GarbageLabels()), tmp_path, CPU, range(2), fraction=0.5)
    assert honest.chosen == fooled.chosen
    assert fooled.interval.mean < 0.2 < honest.interval.mean
    assert honest.file_name != fooled.file_name


def test_fine_tuning_states_its_protocol():
    settings = FineTuning(epochs=1, rates=(0.1, 1e-6), flip=0.0)
    result = evaluate_finetuning(_convnet(), _data(), CPU, [0, 1], settings, fraction=0.5)
    assert result.protocol.keys() >= STATED | {"fine_tuning", "train_transform"}
    assert result.protocol["fine_tuning"]["epochs"] == 1
    assert "learning rate from 0.1, 1e-06" in result.protocol["selection"]
    assert result.command == "finetune"
    json.dumps(result.protocol)


def test_knn_states_its_protocol_and_is_that_of_the_features(tmp_path):
    data = _data()
    result = evaluate_knn(_pixels(), data, tmp_path, CPU, neighbours=5, temperature=0.2)
    assert result.protocol.keys() >= STATED | {"neighbours", "temperature"}
    assert "Wilson" in result.protocol["interval"]
    everything = [torch.cat([batch.inputs for batch in data.evaluation_loader(split)]) for split in ("train", "test")]
    labels = [torch.cat([batch.label for batch in data.evaluation_loader(split)]) for split in ("train", "test")]
    rows = [((images.double() / 255 - 0.5) / 0.25).flatten(1) for images in everything]
    assert result.interval.mean == pytest.approx(
        knn_top1(rows[1], labels[1], rows[0], labels[0], 10, 5, 0.2), abs=0.003
    )


def test_more_neighbours_than_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match="301 neighbours of 300 training samples: ask for 1 to 300"):
        evaluate_knn(_pixels(), _data(), tmp_path, CPU, neighbours=301)


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda encoder, cache: evaluate_knn(encoder, _data(), cache, CPU, neighbours=301),
        lambda encoder, cache: evaluate_probe(encoder, _data(), cache, CPU, [0], fraction=2.0),
        lambda encoder, cache: evaluate_finetuning(encoder, _data(), CPU, [0], FineTuning(), per_class=301),
    ],
    ids=["knn", "probe", "finetune"],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, monkeypatch, evaluate):
    monkeypatch.setattr(ImageData, "evaluation_loader", _refuse)
    with pytest.raises(InputError):
        evaluate(_convnet(), tmp_path)


def test_features_are_computed_once_for_all_evaluations(tmp_path):
    encoder, data = _convnet(), _data()
    probed = evaluate_probe(encoder, data, tmp_path, CPU, [0], fraction=0.2)
    encoder.backbone.forward = _refuse
    assert evaluate_probe(encoder, data, tmp_path, CPU, [0], fraction=0.2).interval == probed.interval
    evaluate_knn(encoder, data, tmp_path, CPU, neighbours=5)
    with pytest.raises(RuntimeError, match="computed again"):
        evaluate_knn(with_backbone(encoder, _Refusing(), {}), data, tmp_path, CPU, neighbours=5)


class _Refusing(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return _refuse(images)


def _refuse(*arguments: object) -> torch.Tensor:
    raise RuntimeError("computed again")


def test_a_set_without_labels_is_refused(tmp_path):
    class Unlabelled(Dataset):
        labels = None

        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int):
            return Digits()[index][0]

    data = ImageData(
        Unlabelled(), views=SimCLRViews(size=8, blur=0.0), test=Digits(train=False), batch_size=8, workers=0, channels=1
    )
    with pytest.raises(InputError, match="no labels"):
        evaluate_probe(_pixels(), data, tmp_path, CPU, [0], fraction=1.0)
