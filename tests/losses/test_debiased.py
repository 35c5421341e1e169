"""HCL and the debiased loss against a loop; the hardest negative."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast import in_batch_pairs
from contrast.losses import (
    HCL,
    AdaptiveTemperature,
    ContrastiveLoss,
    Debiased,
    HardestNegative,
    InfoNCE,
    LearnedTemperature,
    TiledNegatives,
)
from tests.losses.examples import against_queue, in_batch, rows, with_gradient
from tests.reference import transforms as reference

small = settings(deadline=None, max_examples=15)


@small
@given(
    st.integers(0, 10_000),
    st.integers(2, 5),
    st.sampled_from([0.07, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 0.6]),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_hcl_is_the_loop(seed: int, count: int, temperature: float, share: float, beta: float) -> None:
    z1, z2 = rows(seed, count, 3), rows(seed + 1, count, 3)
    pairs = in_batch_pairs(z1, z2, torch.arange(count))
    expected = reference.hcl(z1, z2, temperature, share, beta)
    torch.testing.assert_close(
        ContrastiveLoss(HCL(share, beta), temperature)(pairs).loss, expected, rtol=1e-9, atol=1e-12
    )
    if beta == 0:
        found = ContrastiveLoss(Debiased(share), temperature)(pairs).loss
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@small
@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.05, 2), st.booleans())
def test_without_a_correction_it_is_nt_xent(seed: int, count: int, temperature: float, queue: bool) -> None:
    pairs = against_queue(seed, max(count, 3), 7) if queue else in_batch(seed, count)
    expected = ContrastiveLoss(InfoNCE(), temperature)(pairs).losses
    for objective in (HCL(0.0, 0.0), Debiased(0.0)):
        torch.testing.assert_close(ContrastiveLoss(objective, temperature)(pairs).losses, expected)


def test_the_floor_holds_and_moves_a_learned_temperature() -> None:
    """Where the negatives are less than the positives' share of them, G is N e^{-1/τ} and the loss a function of τ."""
    z = torch.eye(4, dtype=torch.float64)
    pairs = with_gradient(in_batch_pairs(z, z, torch.arange(4)))
    temperature = LearnedTemperature(0.5).double()
    loss = ContrastiveLoss(Debiased(0.5), temperature)(pairs).loss
    loss.backward()
    tau = temperature.log_value.detach().exp().requires_grad_()
    expected = torch.log1p(6 * torch.exp(-1 / tau - 1 / tau))
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(temperature.log_value.grad, tau.grad * tau.detach())
    assert not pairs.negatives.grad.any()


def test_gradient_flows_through_the_weights_of_hard_negatives() -> None:
    pairs = with_gradient(in_batch(0, 3))
    ContrastiveLoss(HCL(0.1, 1.0), 0.5)(pairs).loss.backward()
    step = 1e-6
    for row, column in ((0, 0), (4, 3)):
        values = []
        for shift in (step, -step):
            moved = pairs.negatives.detach().clone()
            moved[row, column] += shift
            values.append(ContrastiveLoss(HCL(0.1, 1.0), 0.5)(dataclasses.replace(pairs, negatives=moved)).loss.item())
        assert pairs.negatives.grad[row, column].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("objective", [InfoNCE(), Debiased(), HCL(), HCL(0.0, 1.0)])
def test_a_query_without_negatives_has_loss_zero_and_no_gradient(objective: torch.nn.Module) -> None:
    pairs = dataclasses.replace(in_batch(0, 3), excluded=torch.full((6, 6), -1))
    pairs.excluded[0] = torch.arange(6)
    pairs = with_gradient(pairs)
    output = ContrastiveLoss(objective, 0.2)(pairs)
    output.loss.backward()
    assert output.losses[0] == 0
    assert not pairs.query.grad[0].any()
    assert pairs.query.grad.isfinite().all()
    assert pairs.negatives.grad.isfinite().all()


def test_the_hardest_is_of_the_largest_score_at_its_own_temperature() -> None:
    pairs = against_queue(0, 4, 9)
    temperature = AdaptiveTemperature(6, beta=0.5).double()
    for dense in (True, False):
        _, negatives = ContrastiveLoss(HardestNegative(), temperature).logits(pairs)
        negatives = negatives if dense else TiledNegatives(pairs, temperature, columns=2)
        score, logit = negatives.hardest()
        for i in range(4):
            may = [row for row, of in zip(pairs.negatives, pairs.negative_index, strict=True) if of != i]
            row = max(may, key=lambda row: float(pairs.query[i] @ row))
            torch.testing.assert_close(score[i], pairs.query[i] @ row)
            torch.testing.assert_close(logit[i], temperature(score[i], pairs.query[i], row))


def test_a_positive_that_is_hardest_costs_nothing() -> None:
    near, far = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.6, 0.8]]).double()
    query = torch.tensor([[1.0, 0.0]]).double()
    negatives = torch.tensor([[0.8, 0.6]]).double()
    for positive, plain, competing in ((near, -0.4, 0.0), (far, 0.4, 0.4)):
        pairs = dataclasses.replace(
            in_batch(0, 1, width=2), query=query, positive=positive, negatives=negatives, index=torch.tensor([0]),
            negative_index=torch.tensor([5]), view=None,
        )  # fmt: skip
        for objective, expected in ((HardestNegative(), plain), (HardestNegative(positive_competes=True), competing)):
            assert ContrastiveLoss(objective, 0.5)(pairs).loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_hcl_has_the_gradient_of_a_learned_temperature(beta: float) -> None:
    """At beta 0 one of its two sums is of logits times 0."""
    pairs, losses = in_batch(3, 5), []
    temperature = LearnedTemperature(0.3).double()
    loss = ContrastiveLoss(HCL(0.1, beta), temperature)
    (log,) = temperature.parameters()
    loss(pairs).loss.backward()
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            log.add_(step)
            losses.append(loss(pairs).loss.item())
            log.sub_(step)
    assert log.grad is not None
    assert log.grad.item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5)
