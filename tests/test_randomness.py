"""Uniform in every direction, pure in every argument, and never renumbered."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contrast.randomness import Purpose, _by_numpy, _by_torch, permutation, seed_from, uniform

small = settings(deadline=None, max_examples=30)
keys = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4).map(tuple)
indices = st.integers(0, 2**62)

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The finaliser as published, on Python's integers."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
    return state ^ state >> 31


# The directions in which numbers lie next to each other: along each one they must look independent.
DIRECTIONS = {
    "samples": uniform((0, 0, Purpose.VIEW, 0), torch.arange(40_000), 1)[:, 0],
    "columns": uniform((0, 0, Purpose.VIEW, 0), torch.tensor([7]), 40_000)[0],
    "epochs": torch.cat([uniform((0, epoch, Purpose.VIEW, 0), torch.tensor([7]), 1)[0] for epoch in range(4_000)]),
    "seeds": torch.cat([uniform((seed, 0, Purpose.VIEW, 0), torch.tensor([7]), 1)[0] for seed in range(4_000)]),
    "strided samples": uniform((1, 2, Purpose.ORDER), torch.arange(0, 2**40, 2**25), 1)[:, 0],
}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_uniform_along_every_direction(direction: str) -> None:
    numbers = DIRECTIONS[direction].double().numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    counts, _ = torch.histogram(DIRECTIONS[direction], 64, range=(0.0, 1.0))
    assert stats.chisquare(counts.double().numpy()).pvalue > 1e-3
    low_bits = (DIRECTIONS[direction] * 2**24).long() % 16
    assert stats.chisquare(low_bits.bincount(minlength=16).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_neighbours_are_independent(direction: str) -> None:
    """Pairs of neighbours fill the square: a chi-square over 8 by 8 cells, and the next 4 lags uncorrelated."""
    numbers = DIRECTIONS[direction].double()
    cells = (numbers * 8).long()
    joint = (cells[:-1] * 8 + cells[1:]).bincount(minlength=64)
    assert stats.chisquare(joint.numpy()).pvalue > 1e-3
    for lag in range(1, 5):
        correlation = torch.corrcoef(torch.stack([numbers[:-lag], numbers[lag:]]))[0, 1]
        assert abs(correlation) < 4 / len(numbers) ** 0.5


def test_streams_of_different_keys_are_independent() -> None:
    index = torch.arange(20_000)
    every = itertools.product((0, 1), (0, 1), (Purpose.VIEW, Purpose.STEP), (0, 1))
    streams = torch.stack([uniform(key, index, 1)[:, 0] for key in every])
    correlations = torch.corrcoef(streams) - torch.eye(len(streams))
    assert correlations.abs().max() < 5 / len(index) ** 0.5


def test_keys_in_another_order_are_other_keys() -> None:
    index = torch.arange(100)
    assert not torch.equal(uniform((1, 2), index, 1), uniform((2, 1), index, 1))
    assert not torch.equal(uniform((1,), index, 1), uniform((1, 0), index, 1))
    assert len({seed_from(*pair) for pair in itertools.product(range(30), repeat=2)}) == 900


@small
@given(keys, st.lists(indices, min_size=1, max_size=8), st.integers(1, 6))
def test_a_number_is_the_same_in_any_batch_at_any_place(key: tuple[int, ...], index: list[int], count: int) -> None:
    together = uniform(key, torch.tensor(index), count)
    assert together.shape == (len(index), count)
    for row, each in enumerate(index):
        alone = uniform(key, torch.tensor([each]), count + 3)
        assert torch.equal(together[row], alone[0, :count])
    assert torch.equal(uniform(key, torch.tensor(index[::-1]), count), together.flip(0))


@small
@given(keys, indices, st.integers(1, 9))
def test_each_number_is_splitmix64_of_its_place(key: tuple[int, ...], index: int, column: int) -> None:
    state = 0x9E3779B97F4A7C15
    for each in key:
        # `splitmix64` but for its first shift
        state = (state ^ each & MASK) * 0xBF58476D1CE4E5B9 & MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
        state ^= state >> 31
    row = splitmix64(index * 0x9E3779B97F4A7C15 & MASK ^ state)
    bits = splitmix64(row + column * 0x9E3779B97F4A7C15 & MASK) >> 40
    assert uniform(key, torch.tensor([index]), column)[0, -1].item() == bits / 2**24
    assert seed_from(*key) == state >> 1


def test_no_state_is_read_or_written() -> None:
    before = torch.random.get_rng_state()
    torch.manual_seed(1)
    first, order = uniform((3,), torch.arange(5), 2), permutation(50, 3)
    torch.manual_seed(2)
    middle = torch.random.get_rng_state()
    assert torch.equal(uniform((3,), torch.arange(5), 2), first)
    assert torch.equal(permutation(50, 3), order)
    assert torch.equal(torch.random.get_rng_state(), middle)
    torch.random.set_rng_state(before)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_the_index_may_be_of_any_integer_type(dtype: torch.dtype) -> None:
    assert torch.equal(uniform((5,), torch.arange(9, dtype=dtype), 2), uniform((5,), torch.arange(9), 2))


@small
@given(st.integers(0, 200), keys)
def test_a_permutation_holds_every_number_once(count: int, key: tuple[int, ...]) -> None:
    order = permutation(count, *key)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, permutation(count, *key))


def test_permutations_of_different_keys_differ_and_favour_no_place() -> None:
    orders = torch.stack([permutation(10, 0, Purpose.ORDER, epoch) for epoch in range(2_000)])
    for place in range(10):
        assert stats.chisquare(orders[:, place].bincount(minlength=10).numpy()).pvalue > 1e-4


def test_a_seed_fits_a_torch_generator() -> None:
    for key in range(1_000):
        seed = seed_from(key)
        assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


# A run's identity: a change here means that no earlier run can be repeated or resumed.
GOLDEN = {
    (0, 0, Purpose.VIEW, 0): [[5333514, 2350054], [8877709, 30649], [4948771, 9730521]],
    (0, 3, Purpose.VIEW, 1): [[13333424, 10460344], [5653526, 9319572], [16047705, 5689850]],
    (-5, 2**40): [[4715926, 3572872], [11703753, 2037105], [14612340, 12035246]],
}


@pytest.mark.parametrize("key", GOLDEN, ids=str)
def test_numbers_are_never_renumbered(key: tuple[int, ...]) -> None:
    found = uniform(key, torch.tensor([0, 7, 1_281_166]), 2) * 2**24
    assert found.long().tolist() == GOLDEN[key]


def test_purposes_and_permutations_are_never_renumbered() -> None:
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "ORDER": 1,
        "VIEW": 2,
        "BATCH_SHUFFLE": 3,
        "STEP": 4,
        "QUEUE": 5,
        "SPLIT": 6,
        "PROBE": 7,
        "HARD_NEGATIVE_MIXING": 8,
        "POSITIVE_EXTRAPOLATION": 9,
        "NEGATIVE_INTERPOLATION": 10,
        "BANK_MINING": 11,
        "BANK_LISTS": 12,
        "OBSERVED_ROWS": 13,
        "LOOKED_AT": 14,
    }
    assert seed_from(0, Purpose.QUEUE) == 5921022579797597485
    assert permutation(8, 0, Purpose.ORDER, 3).tolist() == [3, 4, 5, 6, 7, 0, 2, 1]


@given(
    start=st.integers(0, 2**64 - 1),
    index=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    count=st.integers(0, 9),
)
def test_a_cpu_draws_what_a_device_draws(start: int, index: list[int], count: int) -> None:
    rows = torch.tensor(index, dtype=torch.int64)
    assert torch.equal(_by_numpy(start, rows, count), _by_torch(start, rows, count))
