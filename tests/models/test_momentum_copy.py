"""The moving average of parameters against a loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from contrast.errors import InputError
from contrast.models import ConvNet, momentum_copy, update_momentum


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 0.996, 0.999, 1.0])
def test_equals_the_loop_and_leaves_buffers(momentum: float) -> None:
    torch.manual_seed(0)
    student = ConvNet((3, 4), channels=1, image_size=8).double()
    teacher = momentum_copy(student)
    for each in student.parameters():
        nn.init.normal_(each)
    student(torch.randn(4, 1, 8, 8, dtype=torch.float64))
    expected = [
        momentum * theirs + (1 - momentum) * ours
        for ours, theirs in zip(student.parameters(), teacher.parameters(), strict=True)
    ]
    before = [each.clone() for each in teacher.buffers()], [each.clone() for each in student.parameters()]
    update_momentum(student, teacher, momentum)
    torch.testing.assert_close(list(teacher.parameters()), expected, atol=1e-15, rtol=1e-14)
    assert all(torch.equal(a, b) for a, b in zip(teacher.buffers(), before[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), before[1], strict=True))
    assert not torch.equal(next(student.buffers()), next(teacher.buffers()))


def test_the_ends_are_exact() -> None:
    student, teacher = nn.Linear(50, 50), nn.Linear(50, 50)
    kept = teacher.weight.clone()
    update_momentum(student, teacher, 1.0)
    assert torch.equal(teacher.weight, kept)
    update_momentum(student, teacher, 0.0)
    assert torch.equal(teacher.weight, student.weight)


def test_the_copy_shares_nothing_and_asks_for_no_gradient() -> None:
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    teacher = momentum_copy(student)
    assert all(each.requires_grad for each in student.parameters())
    assert not any(each.requires_grad for each in teacher.parameters())
    ours = {each.data_ptr() for each in [*student.parameters(), *student.buffers()]}
    assert ours.isdisjoint(each.data_ptr() for each in [*teacher.parameters(), *teacher.buffers()])
    update_momentum(student, teacher, 0.5)
    assert not any(each.requires_grad for each in teacher.parameters())


def test_refusals() -> None:
    net = nn.Linear(2, 2)
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=f"momentum {momentum:g} is outside"):
            update_momentum(net, net, momentum)
    with pytest.raises(InputError, match="different parameters"):
        update_momentum(net, nn.Linear(3, 2), 0.9)
