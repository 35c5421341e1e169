"""Momentum encoder: an exponential moving average of a network, such as MoCo's key encoder or BYOL's target network."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from contrast.checks import checked
from contrast.errors import InputError

__all__ = ["momentum_copy", "update_momentum"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@checked
def momentum_copy(module: ModuleT) -> ModuleT:
    """Copy `module` to start a momentum encoder: its own parameters without gradient, and its own buffers."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
@checked
def update_momentum(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """Update a momentum encoder: move the teacher's parameters towards the student's.

    ``θ_teacher ← m θ_teacher + (1 - m) θ_student``

    Buffers are not changed: the key encoder's batch norms keep their own statistics, as in the authors' code.

    Args:
        student: the trained network.
        teacher: the copy that `momentum_copy` made of the student; changed in place.
        momentum: m, the share of its own value that the teacher keeps, within [0, 1].

    Raises:
        InputError: if `momentum` is outside [0, 1], or if the two networks have different parameters.

    Source: He et al., CVPR 2020, arXiv 1911.05722, eq. 2.

    Example:
        >>> student, teacher = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(student.weight), nn.init.zeros_(teacher.weight)
        >>> update_momentum(student, teacher, 0.75)
        >>> teacher.weight.item()
        0.25
    """
    if not 0 <= momentum <= 1:
        raise InputError(f"momentum {momentum:g} is outside [0, 1]: it is the share that the teacher keeps, say 0.999")
    ours: list[Tensor] = list(student.parameters())
    theirs: list[Tensor] = list(teacher.parameters())
    if [each.shape for each in ours] != [each.shape for each in theirs]:
        raise InputError("student and teacher have different parameters: make the teacher by momentum_copy(student)")
    torch._foreach_lerp_(theirs, ours, 1 - momentum)  # one kernel for all parameters; no public name for lists
