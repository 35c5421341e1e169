"""A batch encoded part by part: the whole batch's features and gradients, with a part's memory."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from contrast import in_batch_pairs
from contrast.errors import InputError
from contrast.losses import DCL, ContrastiveLoss
from contrast.models import Backbone, ConvNet, GradientCache, ResNet1d, require_fitting, split_batch_norm


class WithoutNorm(Backbone):
    """A convolution, a dropout and a mean."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(6, 1, 8)
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Dropout(dropout))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).mean(dim=(2, 3))

    def describe(self) -> dict[str, object]:
        return {"class_path": "WithoutNorm"}


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Of a contrastive loss of two views, which no part of a batch has alone."""
    loss = ContrastiveLoss(DCL(), 0.2)
    z1, z2 = (nn.functional.normalize(network(view), dim=-1) for view in images)
    output = loss(in_batch_pairs(z1, z2, torch.arange(len(z1)))).loss
    return [output.detach(), *torch.autograd.grad(output, list(network.parameters()))]


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_loss_and_gradients_are_the_whole_batch_s(rows: int) -> None:
    torch.manual_seed(0)
    plain, images = WithoutNorm().double(), torch.randn(2, 7, 1, 8, 8, dtype=torch.float64)
    for ours, whole in zip(gradients(GradientCache(plain, rows), images), gradients(plain, images), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-14)


def test_parts_are_of_the_size_that_was_asked_for_and_alike() -> None:
    net, seen = WithoutNorm(), []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    GradientCache(net, 3)(torch.randn(7, 1, 8, 8)).sum().backward()
    assert seen == [3, 2, 2, 2, 2, 3]  # forward, and the other way round in backward
    seen.clear()
    with torch.no_grad():
        assert GradientCache(net, 3)(torch.randn(7, 1, 8, 8)).shape == (7, 6)
    assert seen == [3, 2, 2]


def test_what_is_dropped_in_forward_is_dropped_in_backward() -> None:
    net = WithoutNorm(dropout=0.5).double()
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    found = []
    for cached in (True, False):
        torch.manual_seed(3)
        parts = GradientCache(net, 2)(images) if cached else torch.cat([net(part) for part in images.split(2)])
        found.append([parts.detach(), *torch.autograd.grad(parts.square().sum(), list(net.parameters()))])
    assert all(torch.equal(ours, apart) for ours, apart in zip(*found, strict=True))


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_takes_each_part_s_statistics_and_moves_once_for_each(groups: int) -> None:
    torch.manual_seed(0)
    whole = split_batch_norm(ConvNet((4, 6), channels=1, image_size=8).double(), groups)
    apart, images = copy.deepcopy(whole), torch.randn(2, 6, 1, 8, 8, dtype=torch.float64)
    cached = GradientCache(whole, 2)
    ours = gradients(cached, images)
    expected = gradients(_Apart(apart), images)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    for (name, one), other in zip(whole.named_buffers(), apart.buffers(), strict=True):
        assert torch.equal(one, other), name
    assert all(each.momentum == 0.1 for each in whole.modules() if isinstance(each, nn.BatchNorm2d))


class _Apart(nn.Module):
    """Parts of two, one after another, with everything kept."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.network(part) for part in images.split(2)])


def test_it_is_what_it_holds() -> None:
    net = GradientCache(ConvNet((4, 8), channels=1, image_size=8), 4)
    assert (net.width, net.channels, net.image_size, net.axes) == (8, 1, 8, 2)
    assert net.describe() == net.backbone.describe()
    assert net.plain_state_dict().keys() == net.backbone.plain_state_dict().keys()
    require_fitting(GradientCache(ResNet1d(channels=3), 4), (3, 50))
    with pytest.raises(InputError, match="rows"):
        GradientCache(ConvNet(), 0)


_PEAK = r"""
import re, sys, torch
from contrast.models import ConvNet, GradientCache

torch.set_num_threads(1)
net = ConvNet((16, 16), channels=3, image_size=32)
net = GradientCache(net, 16) if sys.argv[1] == "cached" else net
net(torch.zeros(16, 3, 32, 32)).sum().backward()
images = torch.zeros(512, 3, 32, 32)
def peak():  # not ru_maxrss, which a new process takes over from the one that starts it
    return int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])


before = peak()
net(images).square().sum().backward()
print((peak() - before) / 1024)
"""


def test_memory_is_a_part_s() -> None:
    peaks = {}
    for way in ("cached", "whole"):
        done = subprocess.run([sys.executable, "-c", _PEAK, way], capture_output=True, text=True, check=True)
        peaks[way] = float(done.stdout)
    assert peaks["whole"] > 50  # MiB
    assert peaks["cached"] < peaks["whole"] / 5
