"""The bank against plain lists: what it keeps, and what each query meets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast.banks import FaissBank, Hardest, KeyStore, Stratified
from contrast.errors import InputError


def unit(count: int, width: int = 4, seed: int = 0) -> Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


batches = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=9), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(st.integers(9, 14), batches)
def test_first_in_first_out_with_wrap_round(size: int, samples: list[list[int]]) -> None:
    store = KeyStore(width=4, size=size)
    slots: list[tuple[Tensor, int, int]] = []
    place = 0
    for step, batch in enumerate(samples):
        keys = unit(len(batch), seed=step)
        store.write(keys, torch.tensor(batch), step)
        for key, sample in zip(keys, batch, strict=True):
            slots[place : place + 1] = [(key, sample, step)]
            place = (place + 1) % size
    same_as(store, slots)


@settings(deadline=None, max_examples=60)
@given(batches)
def test_one_row_a_sample_holds_its_newest_key(samples: list[list[int]]) -> None:
    store = KeyStore(width=4, size=12, per_sample=True)
    newest: dict[int, tuple[Tensor, int, int]] = {}
    for step, batch in enumerate(samples):
        keys = unit(len(batch), seed=step)
        store.write(keys, torch.tensor(batch), step)
        for key, sample in zip(keys, batch, strict=True):
            newest[sample] = (key, sample, step)
    found = by_sample([(store.keys[row], int(store.index[row]), int(store.written[row])) for row in range(len(newest))])
    assert int(store.filled) == len(newest)
    assert found == by_sample(list(newest.values()))


def by_sample(slots: list[tuple[Tensor, int, int]]) -> dict[int, tuple[list[float], int]]:
    return {sample: (key.tolist(), step) for key, sample, step in slots}


def same_as(store: KeyStore, slots: list[tuple[Tensor, int, int]]) -> None:
    filled = int(store.filled)
    assert filled == len(slots)
    assert torch.equal(store.keys[:filled], torch.stack([key for key, _, _ in slots]))
    assert store.index[:filled].tolist() == [sample for _, sample, _ in slots]
    assert store.written[:filled].tolist() == [step for _, _, step in slots]
    assert (store.index[filled:] == -1).all()


def slow_neighbours(bank: FaissBank, query: Tensor, sample: int, count: int) -> list[float]:
    """Scores of the nearest rows that are not of the sample, best first."""
    rows = range(int(bank.rows.filled))
    scores = [
        float(query @ bank.rows.keys[row].float()) for row in rows if sample < 0 or bank.rows.index[row] != sample
    ]
    return sorted(scores, reverse=True)[:count]


@settings(deadline=None, max_examples=60)
@given(
    st.booleans(),
    st.integers(1, 20),
    batches,
    st.lists(st.integers(-1, 11), min_size=1, max_size=5),
    st.sampled_from(["float32", "float16"]),
)
def test_neighbours_are_the_nearest_rows_of_other_samples(
    per_sample: bool, count: int, samples: list[list[int]], asking: list[int], storage: str
) -> None:
    bank = FaissBank(4, size=12, per_sample=per_sample, storage=storage)
    for step, batch in enumerate(samples):
        bank.store(unit(len(batch), seed=step), torch.tensor(batch))
    query, index = unit(len(asking), seed=100), torch.tensor(asking)
    found = bank.neighbours(query, index, count)
    assert found.score.shape == found.row.shape == (len(asking), count)
    for place, sample in enumerate(asking):
        expected = slow_neighbours(bank, query[place], sample, count)
        rows = found.row[place][found.row[place] >= 0]
        assert len(rows) == len(expected) == len(set(rows.tolist()))
        torch.testing.assert_close(found.score[place, : len(rows)].tolist(), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close((bank.rows.keys[rows].float() @ query[place]).tolist(), expected, rtol=0, atol=1e-6)
        assert (found.row[place, len(rows) :] == -1).all()
        assert torch.isneginf(found.score[place, len(rows) :]).all()
        if sample >= 0:
            assert (bank.rows.index[rows] != sample).all()


def test_a_bank_full_of_one_sample_offers_its_queries_nothing() -> None:
    bank = FaissBank(4, size=64, mining=Hardest(3))
    for step in range(8):
        bank.store(unit(8, seed=step), torch.full((8,), 5))
    offered = bank.negatives(unit(2, seed=9), torch.tensor([5, 6]))
    assert offered.own_index.tolist() == [[-2, -2, -2], [5, 5, 5]]


def test_a_search_that_meets_too_many_own_rows_goes_on() -> None:
    bank = FaissBank(2, size=40)
    angles = torch.linspace(0, 1.5, 40)
    keys = torch.stack([angles.cos(), angles.sin()], dim=1)
    bank.store(keys, torch.where(torch.arange(40) < 12, 5, torch.arange(40)))
    found = bank.neighbours(torch.tensor([[1.0, 0.0]]), torch.tensor([5]), 3)
    assert found.row.tolist() == [[12, 13, 14]]


def test_duplicates_and_ties_are_rows_of_their_own() -> None:
    bank = FaissBank(2, size=6)
    bank.store(torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3), torch.arange(6))
    found = bank.neighbours(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), 4)
    assert found.score.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    assert sorted(found.row[0, :2].tolist()) == [0, 2]


def test_hardest_are_the_nearest_and_carry_their_samples() -> None:
    bank = FaissBank(4, size=32, mining=Hardest(5))
    keys, samples = unit(20), torch.arange(100, 120)
    bank.store(keys, samples)
    query, index = unit(3, seed=1), torch.tensor([100, 105, 7])
    offered = bank.negatives(query, index)
    assert offered.keys.shape == (0, 4)
    near = bank.neighbours(query, index, 5).row
    assert torch.equal(offered.own, keys[near])
    assert torch.equal(offered.own_index, samples[near])


def test_strata_are_drawn_from_their_ranks() -> None:
    mining = Stratified(hardest=3, semi_hard=4, random=50, pool=10)
    bank = FaissBank(4, size=200, mining=mining, seed=3)
    bank.store(unit(200), torch.arange(200))
    query, index = unit(6, seed=1), torch.arange(300, 306)
    ranks = bank.neighbours(query, index, 200).row.argsort(dim=1)  # row to its rank
    offered = bank.negatives(query, index)
    rank = ranks.gather(1, offered.own_index)  # row r is of sample r
    assert torch.equal(rank[:, :3], torch.arange(3).expand(6, 3))
    semi = rank[:, 3:7]
    assert ((semi >= 3) & (semi < 10)).all()
    assert all(len(set(row)) == 4 for row in semi.tolist())
    assert len({tuple(row) for row in semi.tolist()}) > 1
    random = rank[:, 7:]
    assert len({tuple(row) for row in random.tolist()}) == 6
    assert 70 < float(random.double().mean()) < 130
    assert len(random.unique()) > 120  # of 200 rows, 300 draws


def test_draws_go_by_step_sample_and_seed_alone() -> None:
    def chosen(seed: int, steps: int, index: list[int]) -> Tensor:
        bank = FaissBank(4, size=50, mining=Stratified(1, 2, 4, pool=20), seed=seed)
        for _ in range(steps):
            bank.store(unit(50), torch.arange(50))
        return bank.negatives(unit(8, seed=1)[: len(index)], torch.tensor(index)).own_index

    first = chosen(0, 1, [60, 61, 62])
    assert torch.equal(first[:1], chosen(0, 1, [60]))
    assert not torch.equal(first, chosen(1, 1, [60, 61, 62]))
    assert not torch.equal(first, chosen(0, 2, [60, 61, 62]))
    assert not torch.equal(first[:1], chosen(0, 1, [63]))


def test_fewer_rows_than_asked_for_are_marked() -> None:
    bank = FaissBank(4, size=50, mining=Stratified(2, 3, 0, pool=20))
    bank.store(unit(4), torch.arange(4))
    offered = bank.negatives(unit(1, seed=1), torch.tensor([0]))
    assert (offered.own_index[0] != -2).tolist() == [True, True, True, False, False]
    assert len(set(offered.own_index[0, :3].tolist())) == 3


def test_before_the_first_keys_and_while_it_warms_up_rows_are_for_all() -> None:
    bank = FaissBank(4, size=50, mining=Hardest(6), warmup_steps=2)
    query, index = unit(2, seed=1), torch.tensor([0, 1])
    start = bank.negatives(query, index)
    assert start.own is None
    assert start.placeholder.all()
    torch.testing.assert_close(start.keys.norm(dim=1), torch.ones(6))
    bank.store(unit(40), torch.arange(40))
    drawn = bank.negatives(query, index)
    assert (len(drawn.index), drawn.own, drawn.placeholder) == (6, None, None)
    assert torch.equal(drawn.keys, bank.rows.keys[drawn.index])  # row r is of sample r
    bank.store(unit(5), torch.arange(5))
    assert bank.negatives(query, index).own.shape == (2, 6, 4)


def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been() -> None:
    def make() -> FaissBank:
        return FaissBank(4, size=12, per_sample=True, mining=Stratified(2, 2, 2, pool=8), warmup_steps=1)

    whole, first = make(), make()
    for step in range(3):
        for bank in (whole, first):
            bank.store(unit(5, seed=step), (torch.arange(5) + 3 * step) % 12)
    resumed = make()
    resumed.load_state_dict(first.state_dict())
    for step in range(3, 6):
        query, index = unit(3, seed=50 + step), torch.tensor([1, 5, 20])
        ours, theirs = (bank.negatives(query, index) for bank in (whole, resumed))
        assert torch.equal(ours.own, theirs.own)
        assert torch.equal(ours.own_index, theirs.own_index)
        for bank in (whole, resumed):
            bank.store(unit(5, seed=step), (torch.arange(5) + 3 * step) % 12)
    for name, buffer in whole.named_buffers():
        assert torch.equal(buffer, dict(resumed.named_buffers())[name]), name


def test_half_precision_moves_a_score_by_less_than_its_rounding() -> None:
    full, half = FaissBank(64, size=500), FaissBank(64, size=500, storage="float16")
    keys, query = unit(500, 64), unit(20, 64, seed=1)
    for bank in (full, half):
        bank.store(keys, torch.arange(500))
    nowhere = torch.full((20,), -1)
    ours, theirs = (bank.neighbours(query, nowhere, 500).score for bank in (full, half))
    # Each entry is off by at most 2^-11 of itself (2^-25 where it is subnormal), so by Cauchy-Schwarz a score is too.
    assert float((ours - theirs).abs().max()) < 2**-11 + 64 * 2**-25
    assert half.rows.keys.element_size() == 2


WRONG = {
    "a bank needs width and size above 0": {"size": 0},
    "budget_gib is 4: raise it or set a smaller size, storage: float16 for half": {"width": 128, "size": 10_000_000},
    "10,000,000 rows x 128 in float32 takes 4.77 GiB": {"width": 128, "size": 10_000_000},
    "warmup_steps -1 is negative": {"warmup_steps": -1},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_bank_that_cannot_be_is_refused_with_the_numbers(message: str) -> None:
    with pytest.raises(InputError, match=message):
        FaissBank(**{"width": 4, "size": 8} | WRONG[message])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_key_that_is_not_finite_is_refused_with_its_sample(value: float) -> None:
    bank = FaissBank(2, size=4)
    keys = torch.tensor([[1.0, 0.0], [value, 0.0]])
    with pytest.raises(InputError, match="key of sample 17 holds NaN or infinity"):
        bank.store(keys, torch.tensor([3, 17]))
    assert int(bank.rows.filled) == 0


def test_keys_that_have_no_row_are_refused() -> None:
    with pytest.raises(InputError, match="5 keys does not fit a bank of 4"):
        FaissBank(4, size=4).store(unit(5), torch.arange(5))
    one = FaissBank(4, size=4, per_sample=True)
    for sample in (-1, 4):
        with pytest.raises(InputError, match=f"no place for sample {sample} in a bank of 4 rows"):
            one.store(unit(2), torch.tensor([0, sample]))
    one.begin(4)
    with pytest.raises(InputError, match="one row per sample needs 5 rows"):
        one.begin(5)
    FaissBank(4, size=4).begin(5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Hardest(0), "count 0 leaves queries without negatives"),
        (lambda: Stratified(-1, 0, 0), "give numbers of at least 0"),
        (lambda: Stratified(0, 0, 0), "with one above 0"),
        (lambda: Stratified(8, 8, 0, pool=15), "pool 15 is below .* at least 16"),
    ],
)
def test_a_mining_that_cannot_be_is_refused(wrong: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()  # type: ignore[operator]  # a parameter is any object
