"""A compiled backbone is the backbone: features, gradients, names of weights, card; copies compile their own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from contrast.errors import InputError
from contrast.models import Compiled, ConvNet, ResNet1d, require_fitting

_SAME = r"""
import copy, sys, torch
from torch import nn
from contrast.models import Compiled, ConvNet, ResNet

def gradients(net, images):
    leaf = images.clone().requires_grad_()
    net.zero_grad()
    features = net(leaf)
    features.square().sum().backward()
    return [features, leaf.grad, *(each.grad for each in net.parameters())]


torch.manual_seed(0)
for net, side in (ConvNet((4, 8), channels=1, image_size=8), 8), (ResNet("resnet18", base_width=4), 16):
    images = torch.randn(6, net.channels, side, side)
    compiled = Compiled(copy.deepcopy(net), sys.argv[1])
    for _ in range(2):
        for ours, plain in zip(gradients(compiled, images), gradients(net, images), strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-4)
    ours, plain = (dict(each.named_buffers()) for each in (compiled.backbone, net))
    assert len(ours) == len(plain) > 0
    for name, buffer in plain.items():
        torch.testing.assert_close(ours[name], buffer, rtol=1e-4, atol=1e-5)
    assert compiled.backbone._compiled_call_impl is not None
"""
_COPIES = r"""
import copy, torch
from contrast.models import Compiled, ConvNet

net = Compiled(ConvNet((4, 8), channels=1, image_size=8), "aot_eager").eval()
images = torch.randn(4, 1, 8, 8)
before, compiled, seen = net(images), net.backbone._compiled_call_impl, []
handle = net.register_forward_hook(lambda module, inputs, output: seen.append(output))
net(images)
handle.remove()
net(images)
assert len(seen) == 1
assert net.backbone._compiled_call_impl is compiled is not None
other = copy.deepcopy(net)
with torch.no_grad():
    for weight in other.parameters():
        weight.zero_()
assert not torch.equal(other(images), before)
assert torch.equal(net(images), before)
"""


def run(code: str, *arguments: str) -> None:
    """In a process of its own: the compiler cannot read what checks annotations in tests."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_features_gradients_and_statistics_are_the_backbone_s(backend: str) -> None:
    run(_SAME, backend)


def test_hooks_see_every_batch_and_a_copy_compiles_weights_of_its_own() -> None:
    run(_COPIES)


def test_it_is_what_it_holds() -> None:
    plain = ConvNet((4, 8), channels=1, image_size=8)
    net = Compiled(plain)
    assert (net.width, net.channels, net.image_size, net.axes) == (8, 1, 8, 2)
    assert net.describe() == plain.describe()
    assert net.plain_state_dict().keys() == plain.plain_state_dict().keys()
    require_fitting(Compiled(ResNet1d(channels=3), "eager"), (3, 50))


def test_what_torch_cannot_compile_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'nosuch' is not one of torch's: .*inductor"):
        Compiled(ConvNet(), "nosuch")

    def refuses(graph: object, inputs: object) -> None:
        raise RuntimeError("no compiler was found\nand more")

    net = Compiled(ConvNet((4, 8), channels=1, image_size=8), "eager")
    monkeypatch.setattr(net, "backend", refuses)
    with pytest.raises(InputError, match=r"cannot compile this backbone here \(.*\): use it uncompiled") as found:
        net(torch.zeros(4, 1, 8, 8))
    assert "\n" not in str(found.value)
