"""AMCL against loops: a temperature for each pair and head, and its cost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast import Pairs
from contrast.errors import InputError
from contrast.losses import (
    HCL,
    AdaptiveTemperature,
    ContrastiveLoss,
    Debiased,
    HardestNegative,
    HardNegativeMixing,
    InfoNCE,
    amcl_logits,
)
from contrast.losses.adaptive_temperature import temperature_cost
from tests.losses.examples import adaptive, against_queue, in_batch, rows
from tests.reference import transforms as reference

small = settings(deadline=None, max_examples=10)


def loops(temperature: AdaptiveTemperature, pairs: Pairs, head: int | None, objective: str) -> list[torch.Tensor]:
    """Each query's loss of one head: eq. 2.1, eq. 2.4 or InfoNCE over the same logits."""
    of_head = (lambda rows: rows) if head is None else (lambda rows: rows[head])
    query, positive, shared = of_head(pairs.query), of_head(pairs.positive), of_head(pairs.negatives)
    losses = []
    for i in range(len(pairs.index)):
        candidates = [row for row, of in zip(shared, pairs.negative_index, strict=True) if of != pairs.index[i]]
        if pairs.own_negatives is not None:
            candidates += [*of_head(pairs.own_negatives)[i]]
        logits = []
        for other in (positive[i], *candidates):
            tau = reference.network_tau(temperature.network, query[i], other, 0.05, 0.5)
            logits.append(reference.amcl_logit(query[i], other, tau, temperature.beta))
        scores = [float(query[i] @ other) for other in (positive[i], *candidates)]
        if objective == "InfoNCE":
            losses.append(torch.log(sum(torch.exp(each - logits[0]) for each in logits)))
            continue
        first = 0 if objective == "2.4" else 1
        star = max(range(first, len(scores)), key=lambda place: scores[place])
        losses.append(logits[star] - logits[0])
    return losses


OBJECTIVES = {"2.1": HardestNegative(), "2.4": HardestNegative(positive_competes=True), "InfoNCE": InfoNCE()}


@small
@given(st.integers(0, 10_000), st.sampled_from([0, 1, 3]), st.sampled_from([0.0, 0.01, 1.0]), st.booleans())
def test_amcl_is_the_sum_over_heads_of_the_loops(seed: int, heads: int, beta: float, queue: bool) -> None:
    pairs = against_queue(seed, 3, 5, heads=heads) if queue else in_batch(seed, 2, heads=heads)
    pairs = HardNegativeMixing(hardest=2, pairs=1, queries=1, start_epoch=0)(pairs)
    if (pairs.own_negative_index == -2).any():
        return
    temperature = adaptive(beta=beta)
    for name, objective in OBJECTIVES.items():
        by_head = [loops(temperature, pairs, head, name) for head in (range(heads) if heads else [None])]
        expected = torch.stack([torch.stack(each) for each in by_head]).sum(dim=0)
        found = ContrastiveLoss(objective, temperature)(pairs).losses
        torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-10)


@small
@given(st.integers(0, 10_000), st.floats(0.275, 0.45))
def test_a_constant_temperature_without_its_cost_is_info_nce(seed: int, tau: float) -> None:
    temperature = AdaptiveTemperature(6, hidden_width=3, beta=0).double()
    for parameter in temperature.parameters():
        parameter.data.zero_()
    # φ is its last bias alone, so τ is the sigmoid of a square: from the middle of its range upwards.
    agreement = torch.logit(torch.tensor((tau - 0.05) / (0.5 - 0.05), dtype=torch.float64))
    temperature.network[2].bias.data[0] = agreement.clamp(min=0).sqrt()
    pairs = in_batch(seed, 4)
    torch.testing.assert_close(
        ContrastiveLoss(InfoNCE(), temperature)(pairs).loss, ContrastiveLoss(InfoNCE(), tau)(pairs).loss
    )


def test_the_cost_is_smallest_at_two_over_the_width_and_is_a_gaussian_likelihood() -> None:
    tau = torch.linspace(0.01, 1, 9901, dtype=torch.float64)
    assert tau[temperature_cost(tau, 8).argmin()].item() == pytest.approx(2 / 8, abs=1e-4)
    z, other = rows(0, 1, 8)[0], rows(1, 1, 8)[0]
    for tau in (0.1, 0.5, 2.0):
        gaussian = torch.distributions.MultivariateNormal(z, tau * torch.eye(8, dtype=torch.float64))
        likelihood = gaussian.log_prob(other) + 4 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
        found = amcl_logits(z @ other, torch.tensor(tau, dtype=torch.float64), beta=1.0, width=8)
        torch.testing.assert_close(found, likelihood)


def test_temperatures_are_between_their_bounds_and_of_both_rows_alike() -> None:
    temperature = adaptive()
    for parameter in temperature.parameters():
        parameter.data.mul_(4)
    z, other = rows(0, 40, 6), rows(1, 40, 6)
    tau = temperature.of_pairs(z[:, None], other[None])
    assert tau.shape == (40, 40)
    assert tau.min() >= 0.05
    assert tau.max() <= 0.5
    assert tau.std() > 0.05
    torch.testing.assert_close(temperature.of_pairs(other[:, None], z[None]), tau.T)
    torch.testing.assert_close(temperature.of_pairs(z, other), tau.diagonal())
    bounded = AdaptiveTemperature(6, lowest=0.2, highest=0.3).double()
    torch.testing.assert_close(bounded.of_pairs(z * 1e3, z * 1e3).max().item(), 0.3)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 1), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize("size", [1, 5])
def test_pairs_of_every_shape_that_a_loss_asks_for(shape: tuple[int, ...], size: int) -> None:
    """Of one query, of one row, of one head: a size of 1 is no broadcast by accident."""
    temperature = adaptive()
    *heads, count = shape
    query, positive = rows(0, *shape, 6), rows(1, *shape, 6)
    shared, own = rows(2, *heads, size, 6), rows(3, *shape, size, 6)

    def one_by_one(query: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        query, other = torch.broadcast_tensors(query, other)
        pairs = zip(query.reshape(-1, 6), other.reshape(-1, 6), strict=True)
        taus = [reference.network_tau(temperature.network, z, of, 0.05, 0.5) for z, of in pairs]
        return torch.stack(taus).view(query.shape[:-1])

    cases = [
        (query, positive),
        (query[..., :, None, :], shared[..., None, :, :]),
        (query[..., :, None, :], own),
    ]
    for first, second in cases:
        found = temperature.of_pairs(first, second)
        torch.testing.assert_close(found, one_by_one(first, second))
    assert temperature.of_pairs(*cases[1]).shape == (*heads, count, size)


def test_what_needs_a_score_without_embeddings_is_refused() -> None:
    pairs = in_batch(0, 4)
    for objective in (Debiased(), HCL()):
        with pytest.raises(InputError, match="InfoNCE, DCL or HardestNegative"):
            ContrastiveLoss(objective, adaptive())(pairs)
    with pytest.raises(InputError, match="width 5 got embeddings of width 6"):
        ContrastiveLoss(InfoNCE(), adaptive(5))(pairs)
    # Without a share of false negatives there is no floor, and no score without embeddings.
    torch.testing.assert_close(
        ContrastiveLoss(HCL(0.0, 0.0), adaptive())(pairs).loss, ContrastiveLoss(InfoNCE(), adaptive())(pairs).loss
    )
