"""The 1-D ResNet against a walk through its weights, and its card."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from contrast.errors import InputError
from contrast.models import ResNet1d


def by_hand(network: ResNet1d, series: torch.Tensor) -> torch.Tensor:
    """Block by block, with functions alone."""
    state = network.state_dict()

    def convolved(values: torch.Tensor, name: str, stride: int, padding: int) -> torch.Tensor:
        return F.conv1d(values, state[f"{name}.weight"], None, stride, padding)

    def normed(values: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = (state[f"{name}.running_{of}"][:, None] for of in ("mean", "var"))
        weight, bias = (state[f"{name}.{of}"][:, None] for of in ("weight", "bias"))
        return (values - mean) / (var + 1e-5).sqrt() * weight + bias

    values = normed(convolved(series, "stem.0", 1, 3), "stem.1").relu()
    block = 0
    for stage, count in enumerate(network.blocks):
        for place in range(count):
            name, stride = f"stages.{block}", 2 if stage and not place else 1
            inner = normed(convolved(values, f"{name}.residual.0", stride, 1), f"{name}.residual.1").relu()
            inner = normed(convolved(inner, f"{name}.residual.3", 1, 1), f"{name}.residual.4")
            if f"{name}.shortcut.0.weight" in state:
                values = normed(convolved(values, f"{name}.shortcut.0", stride, 0), f"{name}.shortcut.1")
            values = (values + inner).relu()
            block += 1
    return values.mean(dim=2)


def scrambled(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(noise + 0.5 if "var" in name else noise - 0.4)
    return network.eval()


@pytest.mark.parametrize("blocks", [(1,), (2, 2), (1, 3, 1)])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_it_is_what_its_docstring_says(blocks: tuple[int, ...], steps: int):
    network = scrambled(ResNet1d(blocks, base_width=4, channels=3).double())
    series = torch.randn(2, 3, steps, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = network(series)
    assert found.shape == (2, network.width) == (2, 4 * 2 ** (len(blocks) - 1))
    torch.testing.assert_close(found, by_hand(network, series), rtol=1e-9, atol=1e-9)


def test_the_default_is_resnet_18():
    network = ResNet1d(channels=12)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv1d)]
    assert network.width == 512
    assert len([each for each in convolutions if each.kernel_size != (1,)]) == 17
    assert [each.stride[0] for each in convolutions].count(2) == 6


def test_the_card_rebuilds_it():
    network = scrambled(ResNet1d((1, 2), base_width=4, channels=3))
    card = network.describe()
    assert "image_size" not in card
    assert (card["class_path"], card["width"], card["channels"]) == ("contrast.models.ResNet1d", 8, 3)
    names = {"state": network.plain_state_dict()}
    exec(card["rebuild"], names)
    series = torch.randn(2, 3, 9)
    assert torch.equal(names["net"].eval()(series), network(series))
    assert ResNet1d(**card["init_args"] | {"blocks": (1, 2)}).describe() == card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": ()}, "blocks are empty"),
        ({"blocks": (2, 0)}, "blocks entry 0"),
        ({"base_width": 0}, "base_width 0"),
        ({"channels": 0}, "channels 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict, message: str):
    with pytest.raises(InputError, match=message):
        ResNet1d(**arguments)
