"""Loss values and gradients against reference numbers, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contrast import in_batch_pairs, queue_pairs
from contrast.losses import DCL, DCLW, ContrastiveLoss, InfoNCE, Objective
from tests.golden_cases import cases, close

normalize = torch.nn.functional.normalize


def in_batch(objective: Objective, temperature: float, z1: Tensor, z2: Tensor) -> Tensor:
    loss = ContrastiveLoss(objective, temperature)
    return loss(in_batch_pairs(z1, z2, torch.arange(len(z1)))).loss


@pytest.mark.parametrize("name", ["ntxent", "ntxent_solo"])
def test_nt_xent(name: str) -> None:
    for _, parameters, arrays in cases(name):
        x1, x2 = arrays["x1"].requires_grad_(), arrays["x2"].requires_grad_()
        loss = in_batch(InfoNCE(), parameters["tau"], normalize(x1, dim=-1), normalize(x2, dim=-1))
        loss.backward()
        close(loss.detach(), arrays["loss"])
        close(x1.grad, arrays["grad_x1"])
        close(x2.grad, arrays["grad_x2"])


def objective(parameters: dict) -> Objective:
    return DCL() if parameters["loss"] == "dcl" else DCLW(parameters["sigma"])


def test_dcl_and_dclw() -> None:
    for _, parameters, arrays in cases("dcl"):
        x1, x2 = arrays["x1"].requires_grad_(), arrays["x2"].requires_grad_()
        loss = in_batch(objective(parameters), parameters["tau"], normalize(x1, dim=-1), normalize(x2, dim=-1))
        loss.backward()
        close(loss.detach(), arrays["loss"])
        close(x1.grad, arrays["grad_x1"])
        close(x2.grad, arrays["grad_x2"])


def test_dcl_as_the_sum_of_directions() -> None:
    """The authors sum both directions, twice our mean; their gradient with constant weights is twice ours."""
    for _, parameters, arrays in cases("dcl_summed"):
        z1, z2 = arrays["z1"].requires_grad_(), arrays["z2"].requires_grad_()
        if "loss_one_way_12_exact" in arrays:  # where the authors' masking by log(1e-45) shows: the exact value instead
            pairs = in_batch_pairs(z1, z2, torch.arange(len(z1)))
            losses = ContrastiveLoss(objective(parameters), parameters["tau"])(pairs).losses
            close(losses[: len(z1)].mean(), arrays["loss_one_way_12_exact"])
            continue
        loss = in_batch(objective(parameters), parameters["tau"], z1, z2)
        loss.backward()
        close(2 * loss.detach(), arrays["loss_sum"])
        constant_weights = parameters["loss"] == "dclw"
        close(2 * z1.grad, arrays["grad_detached_z1" if constant_weights else "grad_z1"])
        close(2 * z2.grad, arrays["grad_detached_z2" if constant_weights else "grad_z2"])


def test_moco_loss() -> None:
    for _, parameters, arrays in cases("moco"):
        query, key = arrays["step0.q"].requires_grad_(), arrays["step0.k"]
        queue, index = arrays["queue_before"].T.contiguous(), torch.arange(parameters["N"])
        pairs = queue_pairs(query, key, queue, index, torch.full((parameters["K"],), -1))
        loss = ContrastiveLoss(InfoNCE(), parameters["T"])(pairs).loss
        loss.backward()
        close(loss.detach(), arrays["step0.loss"])
        close(query.grad, arrays["step0.grad_q"])
