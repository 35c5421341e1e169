"""The dilated network against sums over single steps, how far it sees, and its card."""

from __future__ import annotations

import math

import pytest
import torch

from contrast.errors import InputError
from contrast.models import DilatedConvNet


def convolved(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dilation: int) -> torch.Tensor:
    """Step by step: Σ_k W_k x[t + (k − middle) · dilation] + b, zero outside the series."""
    steps, middle = values.shape[1], weight.shape[2] // 2
    columns = []
    for time in range(steps):
        column = bias.clone()
        for tap in range(weight.shape[2]):
            place = time + (tap - middle) * dilation
            if 0 <= place < steps:
                column = column + weight[:, :, tap] @ values[:, place]
        columns.append(column)
    return torch.stack(columns, dim=1)


def gelu(values: torch.Tensor) -> torch.Tensor:
    return values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))


def by_hand(network: DilatedConvNet, series: torch.Tensor) -> torch.Tensor:
    state = network.state_dict()

    def layer(values: torch.Tensor, name: str, dilation: int) -> torch.Tensor:
        return convolved(values, state[f"{name}.weight"], state[f"{name}.bias"], dilation)

    values = layer(series, "stem", 1)
    for block in range(network.depth + 1):
        inner = layer(gelu(values), f"blocks.{block}.first", 2**block)
        inner = layer(gelu(inner), f"blocks.{block}.second", 2**block)
        last = block == network.depth
        values = inner + (layer(values, f"blocks.{block}.shortcut", 1) if last else values)
    return values.max(dim=1).values


@pytest.mark.parametrize("steps", [1, 2, 25])
def test_it_is_what_its_docstring_says(steps: int):
    torch.manual_seed(0)
    network = DilatedConvNet(width=6, hidden_width=4, depth=2, channels=3).double()
    series = torch.randn(2, 3, steps, dtype=torch.float64)
    expected = torch.stack([by_hand(network, each) for each in series])
    torch.testing.assert_close(network(series), expected, rtol=1e-9, atol=1e-9)


def test_it_sees_as_far_as_it_says():
    torch.manual_seed(0)
    depth = 2
    network = DilatedConvNet(width=1, hidden_width=4, depth=depth).double()
    series = torch.randn(1, 1, 101, dtype=torch.float64, requires_grad=True)
    network.blocks(network.stem(series))[0, 0, 50].backward()
    assert series.grad is not None
    assert int((series.grad != 0).sum()) == 2 ** (depth + 3) - 3


def test_the_card_rebuilds_it():
    network = DilatedConvNet(width=6, hidden_width=4, depth=2, channels=3)
    card = network.describe()
    assert (card["class_path"], card["width"], card["channels"]) == ("contrast.models.DilatedConvNet", 6, 3)
    names = {"state": network.plain_state_dict()}
    exec(card["rebuild"], names)
    series = torch.randn(2, 3, 9)
    assert torch.equal(names["net"](series), network(series))
    assert DilatedConvNet(**card["init_args"]).describe() == card


@pytest.mark.parametrize("argument", ["width", "hidden_width", "depth", "channels"])
def test_what_cannot_be_is_refused(argument: str):
    with pytest.raises(InputError, match=f"{argument} 0"):
        DilatedConvNet(**{argument: 0})
