"""SimSiam's and BYOL's losses, and AMCL's eq. 2.2."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast.losses import (
    AdaptiveTemperature,
    BadPairMining,
    BYOLLoss,
    LearnedTemperature,
    Loss,
    SimSiamLoss,
    Temperature,
    amcl_logits,
)
from contrast.pairs import negative_free_pairs
from tests.golden_cases import cases, close
from tests.losses.examples import rows
from tests.losses.second_door import one_direction, raw
from tests.reference.second_door import byol, sim_siam


def unit(values: Tensor) -> Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


class Given(Temperature):
    """Temperatures that are given, direction by direction."""

    def __init__(self, taus: list[Tensor], beta: float, width: int) -> None:
        super().__init__()
        self.taus, self.beta, self.width = iter(taus), beta, width

    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return amcl_logits(scores, next(self.taus), self.beta, self.width)

    def of_score(self, score: Tensor) -> Tensor:
        raise NotImplementedError


def test_amcl_equation_2_2() -> None:
    seen = 0
    for _, parameters, arrays in cases("amcl"):
        if parameters["eq"] != "2.2":
            continue
        names = ("p", "p_pos", "h", "h_pos", "tau", "tau_tilde")
        p, p_pos, h, h_pos, tau, tilde = (arrays[name].requires_grad_() for name in names)
        loss = SimSiamLoss(Given([tau, tilde], parameters["beta"], parameters["d"]))
        index = torch.arange(parameters["B"])
        # p has an axis of heads, h has none
        first = negative_free_pairs(unit(p), unit(h_pos), index)
        second = negative_free_pairs(unit(p_pos), unit(h), index, view=1)
        output = loss(first, second)
        output.loss.backward()
        close(output.loss.detach(), arrays["loss"])
        close(output.losses.unflatten(0, (2, -1)).mean(dim=0), arrays["per_anchor"])
        for name, leaf in zip(names, (p, p_pos, h, h_pos, tau, tilde), strict=True):
            grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            close(grad, arrays[f"grad_{name}"])
        seen += 1
    assert seen == 3


def both(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> list:
    return [one_direction(unit(p1), unit(z2)), one_direction(unit(p2), unit(z1))]


def test_the_loops() -> None:
    p1, p2, z1, z2 = raw(0, 4, 6, 5)
    simsiam, ours = SimSiamLoss()(*both(p1, p2, z1, z2)).loss, sim_siam(p1, p2, z1, z2)
    assert simsiam.item() == pytest.approx(ours, rel=1e-12)
    assert BYOLLoss()(*both(p1, p2, z1, z2)).loss.item() == pytest.approx(byol(p1, p2, z1, z2), rel=1e-12)


@pytest.mark.parametrize("loss", [SimSiamLoss(), BYOLLoss()], ids=["SimSiam", "BYOL"])
def test_the_gradient_stops_at_the_positive(loss: Loss) -> None:
    query, positive = rows(0, 4, 5).requires_grad_(), rows(1, 4, 5).requires_grad_()
    loss(one_direction(query, positive)).loss.backward()
    assert positive.grad is None
    factor = -1 if isinstance(loss, SimSiamLoss) else -4
    torch.testing.assert_close(query.grad, factor * positive.detach() / 4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6), heads=st.integers(1, 3))
@pytest.mark.parametrize("loss", [SimSiamLoss(0.3), BYOLLoss()], ids=["SimSiam", "BYOL"])
def test_order_does_not_matter_and_heads_are_summed(loss: Loss, seed: int, count: int, heads: int) -> None:
    query, positive = rows(seed, heads, count, 4), rows(seed + 1, heads, count, 4)
    output = loss(one_direction(query, positive))
    alone = [loss(one_direction(*each)).losses for each in zip(query, positive, strict=True)]
    torch.testing.assert_close(output.losses, torch.stack(alone).sum(dim=0))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(one_direction(query[:, order], positive[:, order])).loss, output.loss)


def test_a_temperature_learns_and_a_weighting_weighs() -> None:
    torch.manual_seed(0)
    query, positive = rows(0, 2, 4, 5).requires_grad_(), rows(1, 2, 4, 5)
    for temperature in (LearnedTemperature(0.3).double(), AdaptiveTemperature(5, 8).double()):
        loss = SimSiamLoss(temperature)
        loss(one_direction(query, positive)).loss.backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in temperature.parameters())
    mining = BadPairMining(4, warmup_epochs=1, noisy=0.1, faulty=0.1)
    for weighted in (SimSiamLoss(weighting=mining), BYOLLoss(weighting=mining)):
        mining.begun.fill_(-1)
        weighted.begin_epoch(0)
        weighted(one_direction(query, positive))
        weighted.begin_epoch(1)
        output = weighted(one_direction(query, positive))
        assert (output.weights < 1).any()
        torch.testing.assert_close(output.loss.detach(), (output.weights * output.losses).mean())


@pytest.mark.parametrize("loss", [SimSiamLoss(0.001), BYOLLoss()], ids=["SimSiam", "BYOL"])
def test_half_precision_is_widened_first(loss: Loss) -> None:
    query = rows(0, 4, 64).to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = loss(one_direction(query, rows(1, 4, 64).to(torch.bfloat16)))
    output.loss.backward()
    assert output.loss.dtype == output.losses.dtype == torch.float32
    assert query.grad.isfinite().all()
    widened = loss(one_direction(query.detach().float(), rows(1, 4, 64).to(torch.bfloat16).float()))
    torch.testing.assert_close(output.losses, widened.losses)
