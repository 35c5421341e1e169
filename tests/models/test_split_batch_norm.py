"""Split batch norm against ordinary batch norm on each chunk: outputs, gradients, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from contrast.errors import InputError
from contrast.models import ResNet, split_batch_norm

GROUPS = 3


def norm(shape: tuple[int, ...], **settings_: object) -> nn.Module:
    kind = nn.BatchNorm1d if len(shape) < 4 else nn.BatchNorm2d
    made = kind(shape[1], **settings_).double()
    if made.affine:
        nn.init.normal_(made.weight)
        nn.init.normal_(made.bias)
    return made


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 3, 2)])
@pytest.mark.parametrize("momentum", [0.1, 0.9, None])
def test_equals_ordinary_norm_on_each_chunk(shape: tuple[int, ...], momentum: float | None) -> None:
    torch.manual_seed(0)
    plain = norm(shape, momentum=momentum)
    copies = [copy.deepcopy(plain) for _ in range(GROUPS)]
    split = split_batch_norm(plain, GROUPS)
    for _ in range(3):
        images = torch.randn(shape, dtype=torch.float64) * 3 + 1
        asked = torch.randn(shape, dtype=torch.float64)
        ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
        expected = torch.cat([each(part) for each, part in zip(copies, theirs.chunk(GROUPS), strict=True)])
        torch.testing.assert_close(split(ours), expected)
        for each in [split, *copies]:
            each.zero_grad()
        (split(ours) * asked).sum().backward()
        split.num_batches_tracked -= 1  # the second forward of this turn
        expected = torch.cat([each(part) for each, part in zip(copies, theirs.chunk(GROUPS), strict=True)])
        (expected * asked).sum().backward()
        for each in copies:
            each.num_batches_tracked -= 1
        torch.testing.assert_close(ours.grad, theirs.grad)
        torch.testing.assert_close(split.weight.grad, sum(each.weight.grad for each in copies))
        torch.testing.assert_close(split.bias.grad, sum(each.bias.grad for each in copies))
        torch.testing.assert_close(split.running_mean, sum(each.running_mean for each in copies) / GROUPS)
        torch.testing.assert_close(split.running_var, sum(each.running_var for each in copies) / GROUPS)
    images = torch.randn(7, *shape[1:], dtype=torch.float64)
    reference = copies[0].eval()
    reference.load_state_dict(split.state_dict())
    assert torch.equal(split.eval()(images), reference(images))


@settings(deadline=None, max_examples=20)
@given(groups=st.integers(1, 4), rows=st.integers(2, 4), width=st.integers(1, 3))
def test_each_part_has_no_mean_and_unit_variance(groups: int, rows: int, width: int) -> None:
    made = split_batch_norm(nn.BatchNorm1d(width, affine=False, eps=1e-12).double(), groups)
    rows_of_parts = made(torch.randn(groups * rows, width, dtype=torch.float64)).unflatten(0, (groups, rows))
    assert rows_of_parts.mean(1).abs().max() < 1e-9
    assert (rows_of_parts.var(1, unbiased=False) - 1).abs().max() < 1e-3


def test_one_group_is_ordinary_norm() -> None:
    plain = norm((6, 4))
    split = split_batch_norm(copy.deepcopy(plain), 1)
    rows = torch.randn(6, 4, dtype=torch.float64)
    assert torch.equal(split(rows), plain(rows))
    assert all(torch.equal(a, b) for a, b in zip(split.buffers(), plain.buffers(), strict=True))


def test_without_running_statistics_evaluation_is_as_usual() -> None:
    plain = norm((6, 4), track_running_stats=False, affine=False)
    split = split_batch_norm(copy.deepcopy(plain), GROUPS)
    rows = torch.randn(6, 4, dtype=torch.float64)
    assert torch.equal(split(rows), torch.cat([plain(part) for part in rows.chunk(GROUPS)]))
    assert torch.equal(split.eval()(rows), plain.eval()(rows))


def test_a_whole_network_keeps_names_parameters_and_layout() -> None:
    network = ResNet("resnet18", image_size=32, base_width=8).to(memory_format=torch.channels_last)
    names, parameters = list(network.state_dict()), list(network.parameters())
    assert split_batch_norm(network, 2) is network
    assert list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    images = torch.randn(4, 3, 32, 32).to(memory_format=torch.channels_last)
    halves = [ResNet("resnet18", image_size=32, base_width=8) for _ in range(2)]
    for half in halves:
        half.load_state_dict(network.state_dict())
    maps = []
    network.layer4.register_forward_hook(lambda module, inputs, output: maps.append(output))
    expected = torch.cat([half(part) for half, part in zip(halves, images.chunk(2), strict=True)])
    torch.testing.assert_close(network(images), expected, atol=1e-5, rtol=1e-4)
    assert maps[0].is_contiguous(memory_format=torch.channels_last)
    assert network.bn1.num_batches_tracked == 1
    assert copy.deepcopy(network).bn1.groups == 2
    assert split_batch_norm(network, 4).bn1.groups == 4
    assert "groups=4" in repr(network)


def test_refusals_name_the_numbers() -> None:
    split = split_batch_norm(nn.BatchNorm1d(2), 4)
    with pytest.raises(InputError, match="batch of 6 cannot be split into 4 equal parts"):
        split(torch.randn(6, 2))
    with pytest.raises(InputError, match="groups 0"):
        split_batch_norm(nn.BatchNorm1d(2), 0)
    untouched = nn.Sequential(nn.BatchNorm1d(2), nn.SyncBatchNorm(2))
    with pytest.raises(InputError, match="SyncBatchNorm cannot be split"):
        split_batch_norm(untouched, 2)
    assert type(untouched[0]) is nn.BatchNorm1d
