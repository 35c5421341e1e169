"""Random numbers of transforms: what they depend on, and how they are distributed."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contrast.losses.candidates import BetaQuantile, query_draws, row_identity, row_permutation
from contrast.randomness import Purpose, uniform
from tests.losses.examples import in_batch

small = settings(deadline=None, max_examples=25)


@small
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_a_query_draws_the_same_alone_and_in_any_batch(seed: int, count: int) -> None:
    pairs = in_batch(seed, count)
    together = query_draws(pairs, (seed, 3), 5)
    order = torch.randperm(2 * count, generator=torch.Generator().manual_seed(seed))
    shuffled = dataclasses.replace(pairs, index=pairs.index[order], view=pairs.view[order])
    assert torch.equal(query_draws(shuffled, (seed, 3), 5), together[order])
    for i in range(2 * count):
        place = slice(i, i + 1)
        alone = dataclasses.replace(
            pairs, query=pairs.query[place], positive=pairs.positive[place], index=pairs.index[place],
            view=pairs.view[place],
        )  # fmt: skip
        assert torch.equal(query_draws(alone, (seed, 3), 5)[0], together[i])
    assert len({tuple(row) for row in together.tolist()}) == 2 * count
    first = dataclasses.replace(pairs, view=None)
    assert torch.equal(query_draws(first, (seed, 3), 5)[:count], together[:count])  # no view is the first


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.6, 2.0, 10.0])
def test_beta_draws_have_the_quantiles_mean_and_variance_of_beta(alpha: float) -> None:
    quantile = BetaQuantile(alpha)
    beta = stats.beta(alpha, alpha)
    places = torch.tensor([0.0, 1e-4, 0.013, 0.25, 0.5, 0.77, 0.999, 1.0])
    # Within a step of the table the distribution function may be off by the step.
    assert beta.cdf(quantile(places).double().numpy()) == pytest.approx(places.numpy(), abs=1 / 4096)
    draws = quantile(uniform((5, 1), torch.arange(200_000), 1)).double()
    assert draws.mean().item() == pytest.approx(0.5, abs=4e-3)
    assert draws.var().item() == pytest.approx(beta.var(), rel=0.02)
    assert stats.kstest(draws.flatten().numpy(), beta.cdf).statistic < 0.004
    assert draws.min() >= 0
    assert draws.max() <= 1


def test_the_table_follows_the_distribution_and_is_in_no_checkpoint() -> None:
    quantile = BetaQuantile(2.0)
    places = torch.linspace(0, 1, 4097)
    expected = torch.as_tensor(stats.beta(2, 2).ppf(places.double().numpy()))
    torch.testing.assert_close(quantile(places).double(), expected, rtol=1e-5, atol=1e-6)
    between = (places[:-1] + places[1:]) / 2
    torch.testing.assert_close(quantile(between), (quantile(places)[:-1] + quantile(places)[1:]) / 2)
    assert not quantile.state_dict()


@small
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_row_permutations_are_permutations_whatever_order_the_rows_stand_in(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    identity = row_identity(torch.randperm(1000, generator=generator)[:count])
    partner = row_permutation(identity, (seed, 1))
    assert sorted(partner.tolist()) == list(range(count))
    order = torch.randperm(count, generator=generator)
    shuffled = row_permutation(identity[order], (seed, 1))
    assert torch.equal(identity[order][shuffled], identity[partner][order])


def test_every_permutation_is_as_likely_as_any_other() -> None:
    identity = row_identity(torch.tensor([11, 5, 90, -1]))
    runs = 24 * 150
    found = Counter(tuple(row_permutation(identity, (seed, 2)).tolist()) for seed in range(runs))
    assert len(found) == 24
    assert stats.chisquare(list(found.values())).pvalue > 1e-3


def test_rows_of_one_sample_have_identities_of_their_own() -> None:
    index = torch.tensor([3, -1, 3, 0, -1, 3, 40_000])
    identity = row_identity(index)
    assert len(set(identity.tolist())) == len(index)
    first = row_identity(torch.tensor([0, 40_000, 3, -1]))
    # The first row of a sample is the same whatever others there are.
    assert identity[[3, 6, 0, 1]].tolist() == first.tolist()
    assert row_identity(index[[2, 5, 0]]).tolist() == identity[[0, 2, 5]].tolist()
    assert row_identity(index[:0]).tolist() == []


def test_purposes_do_not_share_numbers() -> None:
    pairs = in_batch(0, 4)
    draws = [query_draws(pairs, (0, 0, purpose), 3) for purpose in Purpose]
    assert len({tuple(each.flatten().tolist()) for each in draws}) == len(Purpose)
