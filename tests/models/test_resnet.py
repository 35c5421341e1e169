"""ResNet against torchvision's own: names, weights, outputs, initial weights, stems."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
import torchvision
from torch import nn

from contrast.data import Standardisation
from contrast.errors import InputError
from contrast.models import ResNet
from contrast.models.resnet import choose_stem


def theirs(name: str) -> nn.Module:
    network = getattr(torchvision.models, name)()
    network.fc = nn.Identity()
    return network.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_loads_torchvision_both_ways_with_bit_equal_outputs(name: str) -> None:
    ours, other = ResNet(name, zero_init_residual=False).eval(), theirs(name)
    images = torch.randn(1, 3, 64, 64)
    fresh = ours(images)
    state = {key: value.clone() for key, value in other.state_dict().items()}
    expected = other(images)
    other.load_state_dict(ours.plain_state_dict(), strict=True)
    assert torch.equal(other(images), fresh)
    ours.load_state_dict(state, strict=True)
    assert torch.equal(ours(images), expected)
    assert not torch.equal(fresh, expected)


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_64x4d", "wide_resnet50_2"]
)
def test_every_plan_has_torchvisions_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        ours, other = ResNet(name), theirs(name)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in other.state_dict().items()}
    assert list(shapes) == list(other.state_dict())


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        counts = {name: sum(each.numel() for each in ResNet(name).parameters()) for name in ("resnet18", "resnet50")}
    assert counts == {"resnet18": 11_176_512, "resnet50": 23_508_032}


@pytest.mark.parametrize(
    ("size", "stem", "maps"), [(8, "small", 1), (28, "small", 4), (32, "small", 4), (96, "large", 3)]
)
def test_stem_follows_the_image_size(size: int, stem: str, maps: int) -> None:
    network = ResNet("resnet18", image_size=size, base_width=8, channels=1)
    seen = []
    network.layer4.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert network(torch.randn(2, 1, size, size)).shape == (2, network.width) == (2, 64)
    assert (network.stem, seen) == (stem, [(2, 64, maps, maps)])


def test_full_size_images_and_boundary_of_the_small_stem() -> None:
    assert ResNet("resnet18", base_width=4)(torch.randn(1, 3, 224, 224)).shape == (1, 32)
    assert [choose_stem("auto", size) for size in (8, 32, 33, 64, 224)] == ["small", "small", "large", "large", "large"]
    assert [choose_stem("large", 32), choose_stem("small", 224)] == ["large", "small"]


def test_width_scales_every_layer() -> None:
    with torch.device("meta"):
        wide, thin = ResNet("resnet50", base_width=64), ResNet("resnet50", base_width=16)
    for (name, a), (_, b) in zip(wide.named_parameters(), thin.named_parameters(), strict=True):
        images = 1 if name == "conv1.weight" else 4
        expected = [a.shape[0] // 4, *(size // images for size in a.shape[1:2]), *a.shape[2:]]
        assert list(b.shape) == expected, name
    assert thin.width == 512


def test_blocks_start_as_the_identity_unless_told_otherwise() -> None:
    for name, norm in (("resnet18", "bn2"), ("resnet50", "bn3")):
        for zero, expected in ((True, 0), (False, 1)):
            weights = dict(ResNet(name, base_width=8, zero_init_residual=zero).named_parameters())
            last = [value for key, value in weights.items() if re.search(rf"layer\d\.\d\.{norm}\.weight", key)]
            assert len(last) in (8, 16)
            assert all((value == expected).all() for value in last)
            others = [value for key, value in weights.items() if re.search(r"layer\d\.\d\.bn1\.weight", key)]
            assert all((value == 1).all() for value in others)


def test_convolutions_start_with_hes_deviation() -> None:
    torch.manual_seed(0)
    weight = ResNet("resnet18", base_width=16).layer4[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


def test_channels_last_changes_nothing_but_the_layout() -> None:
    torch.manual_seed(0)
    network = ResNet("resnet18", image_size=32, base_width=8).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    expected = network(images)
    network = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_narrow_networks_keep_away_from_channels_last_on_a_cpu(channels: int) -> None:
    network = ResNet("resnet18", image_size=32, base_width=8, channels=channels)
    maps = network.conv1(torch.rand(2, channels, 32, 32))
    seen: list[torch.Tensor] = []
    network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(Standardisation((0.5,) * channels, (0.25,) * channels)(torch.rand(2, channels, 32, 32)))
    assert seen[0].stride() == maps.stride()


@pytest.mark.parametrize(("size", "channels", "width"), [(32, 3, 64), (224, 1, 64), (32, 1, 16)])
def test_the_card_rebuilds_the_network(size: int, channels: int, width: int) -> None:
    ours = ResNet("resnet18", image_size=size, channels=channels, base_width=width).eval()
    card, images = ours.describe(), torch.randn(1, channels, 32, 32)
    scope = {"state": ours.plain_state_dict()}
    exec(card["rebuild"], scope)
    assert ("torchvision.models" in card["rebuild"]) == (width == 64)
    assert card["rebuild_needs"] == ("torchvision" if width == 64 else "contrast")
    assert torch.equal(scope["net"].eval()(images), ours(images))
    again = ResNet(**card["init_args"]).eval()
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again(images), ours(images))
    assert (card["width"], card["stem"], card["base_width"]) == (ours.width, ours.stem, width)


def test_refusals_name_the_value() -> None:
    with pytest.raises(InputError, match=r"'resnet19'; did you mean 'resnet18'\?"):
        ResNet("resnet19")
    with pytest.raises(InputError, match=r"no stem 'tiny'.*known: auto, large, small"):
        choose_stem("tiny", 32)
    with pytest.raises(InputError, match="stem 'tiny'"):
        # The constructor itself, without the type check that tests put round it.
        inspect.unwrap(ResNet.__init__)(ResNet.__new__(ResNet), stem="tiny")
    for argument in ("base_width", "channels", "image_size"):
        with pytest.raises(InputError, match=f"ResNet's {argument} 0"):
            ResNet(**{argument: 0})
    with pytest.raises(InputError, match="base_width 8 is too narrow for resnext50_32x4d: give 16"):
        ResNet("resnext50_32x4d", base_width=8)
    assert ResNet("resnext50_32x4d", base_width=16)(torch.randn(2, 3, 32, 32)).shape == (2, 512)
