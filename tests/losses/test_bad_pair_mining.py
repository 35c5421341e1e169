"""DBPM against lists of past losses, and its state."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.errors import InputError
from contrast.losses import DCL, BadPairMining, ContrastiveLoss, InfoNCE, bad_pair_weights
from tests.losses.examples import against_queue, in_batch
from tests.reference.transforms import BadPairs

small = settings(deadline=None, max_examples=20)


def batches(seed: int, samples: int, epochs: int) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """(losses, index) of each batch of each epoch: two directions, uneven cuts, and a few samples dropped."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(samples, dtype=torch.float64, generator=generator) * 3
    found = []
    for _ in range(epochs):
        order = torch.randperm(samples, generator=generator)[: samples - 1 - samples // 4]
        epoch = []
        for part in order.split(max(2, samples // 3)):
            index = torch.cat([part, part])
            noise = torch.rand(len(index), dtype=torch.float64, generator=generator)
            epoch.append((level[index] + noise, index))
        found.append(epoch)
    return found


@small
@given(
    st.integers(0, 10_000),
    st.integers(4, 15),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.7, 1.5]),
    st.sampled_from([0.5, 1.2]),
    st.booleans(),
)
def test_weights_are_those_of_lists_of_past_losses(
    seed: int, samples: int, warmup: int, noisy: float, faulty: float, density: bool
) -> None:
    mining = BadPairMining(samples, warmup, noisy, faulty, density)
    lists = BadPairs(samples, warmup, noisy, faulty, density)
    for epoch, of_epoch in enumerate(batches(seed, samples, epochs=5)):
        mining.begin_epoch(epoch)
        lists.begin_epoch(epoch)
        assert {*(mining.is_noisy | mining.is_faulty).nonzero().flatten().tolist()} == lists.flagged
        for losses, index in of_epoch:
            expected = torch.tensor(lists.weights(losses.tolist(), index.tolist()), dtype=torch.float64)
            torch.testing.assert_close(mining(losses, index), expected, rtol=1e-9, atol=1e-12)
        assert mining.count.tolist() == [len(each) for each in lists.history]


def trained(epochs: int, samples: int = 12, faulty: float = 1.0) -> BadPairMining:
    mining = BadPairMining(samples, warmup_epochs=2, noisy=1.0, faulty=faulty)
    for epoch, of_epoch in enumerate(batches(3, samples, epochs)):
        mining.begin_epoch(epoch)
        for losses, index in of_epoch:
            mining(losses, index)
    return mining


def same(first: BadPairMining, second: BadPairMining) -> bool:
    state = second.state_dict()
    return all(torch.equal(value, state[name]) for name, value in first.state_dict().items())


def test_a_run_resumed_in_mid_epoch_goes_on_bit_for_bit() -> None:
    *whole, last = batches(3, 12, 4)
    one = trained(3)
    one.begin_epoch(3)
    one(*last[0])
    two = BadPairMining(12, warmup_epochs=2, noisy=1.0, faulty=1.0)
    two.load_state_dict(one.state_dict())
    assert same(one, two)
    two.begin_epoch(3)  # as a resumed run does: this epoch's losses are partly in, and must not move the flags
    assert same(one, two)
    assert (two.is_noisy | two.is_faulty).any()
    for each in last[1:]:
        assert torch.equal(one(*each), two(*each))
    for mining in (one, two):
        mining.begin_epoch(4)
    assert same(one, two)
    assert len(whole) == 3


def test_flags_do_move_when_the_next_epoch_begins() -> None:
    mining = trained(3)
    before = mining.mean.clone()
    mining.begin_epoch(2)
    assert torch.equal(mining.mean, before)
    mining.begin_epoch(3)
    assert not torch.equal(mining.mean, before)


def test_evaluation_writes_nothing_and_weighs_alike() -> None:
    mining, (losses, index) = trained(4), batches(3, 12, 5)[4][0]
    before = {name: value.clone() for name, value in mining.state_dict().items()}
    mining.eval()
    weights = mining(losses, index)
    assert all(torch.equal(value, mining.state_dict()[name]) for name, value in before.items())
    mining.train()
    assert torch.equal(mining(losses, index), weights)
    assert not torch.equal(mining.count, before["count"])


def test_what_is_loaded_may_be_of_another_size() -> None:
    one, two = trained(3), BadPairMining(5)
    two.load_state_dict(one.state_dict())
    assert same(one, two)


def test_a_sample_never_seen_is_never_flagged_and_moves_no_mean() -> None:
    mining = BadPairMining(5, warmup_epochs=1, noisy=0.5, faulty=0.5)
    mining.begin_epoch(0)
    mining(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 2]))
    mining.begin_epoch(1)
    assert mining.mean == 2
    assert mining.deviation == pytest.approx((2 / 3) ** 0.5)
    assert mining.is_noisy.tolist() == [True, False, False, False, False]
    assert mining.is_faulty.tolist() == [False, False, True, False, False]
    assert mining(torch.tensor([9.0, 9.0]), torch.tensor([3, 4])).tolist() == [1, 1]


def test_a_sample_at_a_threshold_is_flagged() -> None:
    pure = bad_pair_weights(
        torch.tensor([0.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor(2.0), torch.tensor(1.0), 1.0, 1.0
    )
    assert pure.tolist() == pytest.approx([math.exp(-2), 1, math.exp(-2)])


def test_an_epoch_begun_with_no_losses_flags_nothing() -> None:
    mining = BadPairMining(3, warmup_epochs=1, noisy=0.0, faulty=0.0)
    mining.begin_epoch(5)
    assert mining(torch.tensor([1.0, 2.0]), torch.tensor([0, 1])).tolist() == [1, 1]


def test_where_all_are_alike_nothing_is_flagged() -> None:
    """σ = 0, where even a threshold of no deviations would flag every sample, at a weight of 0/0."""
    mining = BadPairMining(3, warmup_epochs=1, noisy=0.0, faulty=0.0)
    mining.begin_epoch(0)
    mining(torch.full((3,), 1.5), torch.arange(3))
    mining.begin_epoch(1)
    assert mining.deviation == 0
    assert mining(torch.tensor([1.5, 0.0, 9.0]), torch.arange(3)).tolist() == [1, 1, 1]
    zero, middle = torch.zeros((), dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    pure = bad_pair_weights(torch.ones(3), torch.full((3,), 1.5), middle, zero, noisy=0.0, faulty=0.0)
    assert pure.tolist() == [1, 1, 1]


@small
@given(st.integers(0, 10_000))
def test_thresholds_out_of_reach_leave_the_base_loss(seed: int) -> None:
    pairs = in_batch(seed, 5)
    weighted = ContrastiveLoss(DCL(), 0.2, weighting=BadPairMining(5, 1, noisy=1e9, faulty=1e9))
    for epoch in range(3):
        weighted.begin_epoch(epoch)
        weighted.begin_step(epoch, epoch)
        assert weighted(pairs).loss == ContrastiveLoss(DCL(), 0.2)(pairs).loss


def test_the_weights_are_constants_and_the_mean_is_over_all_queries() -> None:
    weighting = BadPairMining(4, warmup_epochs=1, noisy=9.0, faulty=0.5)
    loss = ContrastiveLoss(InfoNCE(), 0.2, weighting=weighting)
    loss.begin_epoch(0)
    loss(in_batch(0, 4))
    loss.begin_epoch(1)
    pairs = in_batch(10, 4)
    query = pairs.query.clone().requires_grad_()
    moved = type(pairs)(query, pairs.positive, pairs.negatives, pairs.index, pairs.negative_index)
    output = loss(moved)
    assert output.weights.min() < 1
    assert torch.equal(output.weights[:4], output.weights[4:])  # one weight a sample, both directions
    torch.testing.assert_close(output.loss.detach(), (output.weights * output.losses).sum() / 8)
    (gradient,) = torch.autograd.grad(output.loss, query)
    _, negatives = loss.logits(moved)
    each = torch.nn.functional.softplus(negatives.logsumexp() - (query * pairs.positive).sum(-1) / 0.2)
    torch.testing.assert_close(gradient, torch.autograd.grad((output.weights * each).sum() / 8, query)[0])


def test_directions_with_negatives_of_their_own_are_pooled() -> None:
    """As in MoCo v2+: two records of pairs, one weight a sample from the mean of both losses."""
    weighting = BadPairMining(4, warmup_epochs=1)
    loss = ContrastiveLoss(DCL(), 0.2, weighting=weighting)
    loss.begin_epoch(0)
    output = loss(against_queue(0, 4, 9), against_queue(7, 4, 9))
    torch.testing.assert_close(weighting.total, output.losses.view(2, 4).mean(dim=0))
    assert weighting.count.tolist() == [1, 1, 1, 1]


def test_a_sample_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="BadPairMining of 3 samples got sample 3"):
        BadPairMining(3)(torch.ones(2), torch.tensor([0, 3]))
    with pytest.raises(InputError, match=r"and -1"):
        BadPairMining(3)(torch.ones(2), torch.tensor([0, -1]))
