"""ConvNet: sizes, gradients, its card, what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from contrast.errors import InputError
from contrast.models import Backbone, ConvNet


@pytest.mark.parametrize(("size", "maps"), [(8, 2), (9, 2), (28, 7), (32, 8), (96, 24)])
def test_sizes(size: int, maps: int) -> None:
    network = ConvNet((4, 6, 10), channels=1, image_size=size)
    seen = []
    network.stages[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    features = network(torch.randn(3, 1, size, size))
    assert features.shape == (3, network.width) == (3, 10)
    assert seen[0].shape == (3, 10, maps, maps)
    torch.testing.assert_close(features, seen[0].flatten(2).mean(2))


def test_parameter_count_and_gradient_everywhere() -> None:
    network = ConvNet()
    count = 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128)
    assert sum(each.numel() for each in network.parameters()) == count
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().max() > 0 for each in network.parameters())


def test_the_card_rebuilds_the_network() -> None:
    ours = ConvNet((4, 6), channels=1, image_size=8).eval()
    card, images = json.loads(json.dumps(ours.describe())), torch.randn(2, 1, 8, 8)
    scope = {"state": ours.plain_state_dict()}
    exec(card["rebuild"], scope)
    assert torch.equal(scope["net"].eval()(images), ours(images))
    again = ConvNet(**card["init_args"] | {"widths": tuple(card["init_args"]["widths"])})
    assert again.load_state_dict(ours.state_dict())
    assert (card["library"], card["width"], card["channels"], card["image_size"]) == ("contrast", 6, 1, 8)


def test_refusals_name_the_value() -> None:
    with pytest.raises(InputError, match="widths are empty"):
        ConvNet(())
    with pytest.raises(InputError, match="widths entry 0"):
        ConvNet((4, 0))
    with pytest.raises(InputError, match="channels -1"):
        ConvNet(channels=-1)
    with pytest.raises(InputError, match="image_size 3 is too small to be halved 2 times"):
        ConvNet((4, 4, 4), image_size=3)
    assert ConvNet((4, 4, 4), channels=1, image_size=4)(torch.randn(2, 1, 4, 4)).shape == (2, 4)


def test_a_backbone_needs_forward_and_a_card() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Backbone(4, 3, None)
