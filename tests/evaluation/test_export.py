"""Export and back, into plain torchvision and timm: strict names and the same bits out."""

from __future__ import annotations

import json
import os

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from contrast.evaluation import export, fingerprint
from contrast.models import ConvNet, ResNet, Timm


def _scrambled(backbone: nn.Module) -> nn.Module:
    """Random weights and random statistics, so that a buffer left behind would show."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in backbone.state_dict().items():
        if not tensor.is_floating_point():
            tensor.fill_(3)
            continue
        noise = torch.rand(tensor.shape, generator=generator)
        positive = "var" in name or (tensor.dim() == 1 and "weight" in name)
        tensor.copy_(noise + 0.5 if positive else (noise - 0.5) * 0.2)
    return backbone.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision_gives_the_same_bits(tmp_path, name):
    backbone = _scrambled(ResNet(name, image_size=224))
    state = load_file(export(backbone, {}, tmp_path))
    plain = getattr(torchvision.models, name)()
    plain.fc = nn.Identity()
    plain.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), backbone(images))


def test_timm_gives_the_same_bits(tmp_path):
    backbone = _scrambled(Timm("resnet10t", image_size=64))
    state = load_file(export(backbone, {}, tmp_path))
    plain = timm.create_model("resnet10t", num_classes=0)
    plain.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(plain.eval()(images), backbone(images))


@pytest.mark.parametrize(
    "backbone",
    [
        ResNet("resnet18", image_size=32, base_width=8, channels=1),
        ResNet("resnet18", image_size=32, channels=1),
        Timm("resnet10t", image_size=32, channels=1),
        ConvNet((4, 8), 1, 8),
    ],
    ids=["narrow", "grey small stem", "timm", "convnet"],
)
def test_the_card_says_how_to_rebuild_it(tmp_path, backbone):
    backbone = _scrambled(backbone)
    state = load_file(export(backbone, {}, tmp_path))
    card = json.loads((tmp_path / "card.json").read_text())
    names: dict = {"state": state}
    exec(card["backbone"]["rebuild"], names)
    assert f"import {card['backbone']['rebuild_needs']}" in card["backbone"]["rebuild"].replace("torch, ", "")
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(names["net"].eval()(images), backbone(images))


def test_our_own_loader_takes_it_back(tmp_path):
    backbone = _scrambled(ResNet("resnet18", image_size=32, base_width=8))
    weights = export(backbone, {}, tmp_path)
    again = ResNet("resnet18", image_size=32, base_width=8, weights=weights)
    assert fingerprint(again) == fingerprint(backbone)


def test_the_card_holds_what_is_known(tmp_path):
    card = {"method": "MoCo", "evaluations": [{"top1": 0.9, "protocol": {"metric": "top-1 accuracy"}}]}
    export(ConvNet((4, 8), 1, 8), card, tmp_path / "new" / "export")
    content = json.loads((tmp_path / "new" / "export" / "card.json").read_text())
    assert content["method"] == "MoCo"
    assert content["evaluations"] == card["evaluations"]
    assert content["backbone"]["architecture"] == "convnet"
    assert sorted(path.name for path in (tmp_path / "new" / "export").iterdir()) == [
        "backbone.safetensors",
        "card.json",
    ]


def test_a_second_export_replaces_the_first(tmp_path):
    export(_scrambled(ConvNet((4, 8), 1, 8)), {}, tmp_path)
    torch.manual_seed(5)
    fresh = ConvNet((4, 8), 1, 8)
    state = load_file(export(fresh, {}, tmp_path))
    assert all(torch.equal(state[name], tensor) for name, tensor in fresh.plain_state_dict().items())


def test_at_no_moment_is_a_card_beside_weights_of_another(tmp_path, monkeypatch):
    export(_scrambled(ConvNet((4, 8), 1, 8)), {"of": "first"}, tmp_path)
    first, seen = (tmp_path / "backbone.safetensors").read_bytes(), []
    replace = os.replace

    def watched(one, other):
        for act in (lambda: replace(one, other), lambda: None):
            card, weights = tmp_path / "card.json", (tmp_path / "backbone.safetensors").read_bytes()
            of = json.loads(card.read_text())["of"] if card.exists() else None
            seen.append((of, weights == first))
            act()

    monkeypatch.setattr(os, "replace", watched)
    torch.manual_seed(5)
    export(ConvNet((4, 8), 1, 8), {"of": "second"}, tmp_path)
    assert {(of, old) for of, old in seen if of is not None} <= {("first", True), ("second", False)}
    assert json.loads((tmp_path / "card.json").read_text())["of"] == "second"
    assert (tmp_path / "backbone.safetensors").read_bytes() != first


def test_an_export_that_fails_leaves_the_first_one(tmp_path, monkeypatch):
    export(ConvNet((4, 8), 1, 8), {"of": "first"}, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError, match="not JSON serializable"):
        export(_scrambled(ConvNet((4, 8), 1, 8)), {"of": object()}, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
