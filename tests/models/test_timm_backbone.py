"""Timm: any architecture by name, nothing downloaded, plain names out."""

from __future__ import annotations

import json
import sys

import pytest
import timm
import torch

from contrast.errors import InputError
from contrast.models import Timm


@pytest.mark.parametrize(
    ("name", "size", "channels", "width"),
    [
        ("test_resnet", 32, 1, 96),
        ("test_vit", 160, 3, 64),
        ("test_vit", 32, 3, 64),
        ("test_mambaout", 64, 3, 256),  # its features pass a layer that num_features does not count
    ],
)
def test_round_trip_with_timm_itself(name: str, size: int, channels: int, width: int) -> None:
    ours = Timm(name, image_size=size, channels=channels).eval()
    images = torch.randn(2, channels, size, size)
    features = ours(images)
    assert features.shape == (2, ours.width) == (2, width)
    card = json.loads(json.dumps(ours.describe()))
    scope = {"state": ours.plain_state_dict()}
    exec(card["rebuild"], scope)
    other = scope["net"].eval()
    assert type(other).__module__.startswith("timm.")
    assert torch.equal(other(images), features)
    again = Timm(**card["init_args"]).eval()
    again.plain_module.load_state_dict(other.state_dict(), strict=True)
    assert torch.equal(again(images), features)


def test_weights_of_a_classifier(tmp_path) -> None:
    classifier = timm.create_model("test_resnet", num_classes=7).eval()
    torch.save(classifier.state_dict(), tmp_path / "timm.pth")
    images = torch.randn(1, 3, 32, 32)
    ours = Timm("test_resnet", weights=tmp_path / "timm.pth").eval()
    assert torch.equal(ours(images), classifier.forward_head(classifier.forward_features(images), pre_logits=True))


def test_refusals(monkeypatch) -> None:
    with pytest.raises(InputError, match=r"no model 'resnet_18'; near names: .*resnet18"):
        Timm("resnet_18")
    with pytest.raises(InputError, match="no model 'hf_hub:someone/something'"):
        Timm("hf_hub:someone/something")
    with pytest.raises(InputError, match=r"no model 'resnet18.a1_in1k'; near names: .*resnet18"):
        Timm("resnet18.a1_in1k")
    with pytest.raises(InputError, match="Timm's channels 0"):
        Timm("resnet18", channels=0)
    with pytest.raises(InputError, match=r"timm's 'test_vit' cannot take image_size 24: .*divisible by patch size"):
        Timm("test_vit", image_size=24)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"^timm is not installed: pip install contrast\[timm\]$"):
        Timm("resnet18")
