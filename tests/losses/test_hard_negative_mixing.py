"""MoCHi against a loop, and what a mix may be made of."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast import Pairs
from contrast.losses import ContrastiveLoss, HardNegativeMixing, InfoNCE, mix_pairs, mix_with_query
from contrast.losses.candidates import query_draws
from contrast.losses.hard_negative_mixing import _place, hardest_rows
from contrast.pairs import MINED, NOT_OFFERED, PAIR_MIX, QUERY_MIX, UNKNOWN
from contrast.randomness import Purpose
from tests.losses.examples import against_queue, in_batch, rows
from tests.reference import transforms as reference

small = settings(deadline=None, max_examples=15)


def offered(pairs: Pairs, i: int) -> list[Tensor]:
    """The rows that query i may mine, by a loop."""
    return [
        row
        for column, row in enumerate(pairs.negatives)
        if not (pairs.negative_index[column] == pairs.index[i] and pairs.index[i] >= 0)
        and not (pairs.placeholder is not None and pairs.placeholder[column])
        and not (pairs.excluded is not None and column in pairs.excluded[i])
    ]


def with_excluded(pairs: Pairs) -> Pairs:
    count, columns = len(pairs.index), pairs.negatives.shape[-2]
    excluded = torch.stack([torch.arange(count) % columns, torch.full((count,), -1)], dim=1)
    return dataclasses.replace(pairs, excluded=excluded)


@small
@given(st.integers(0, 10_000), st.integers(3, 6), st.integers(4, 12), st.integers(1, 8), st.booleans())
def test_the_mixes_are_those_of_the_loop(seed: int, count: int, size: int, hardest: int, queue: bool) -> None:
    pairs = with_excluded(against_queue(seed, count, size) if queue else in_batch(seed, count))
    mixing = HardNegativeMixing(hardest, pairs=5, queries=3, seed=seed)
    mixing.begin_step(epoch=10, step=7)
    draws = query_draws(pairs, (seed, 7, Purpose.HARD_NEGATIVE_MIXING), 3 * 5 + 2 * 3).double()
    made = mixing(pairs)
    for i in range(len(pairs.index)):
        rows_of_query = offered(pairs, i)
        if not rows_of_query:
            assert (made.own_negative_index[i] == NOT_OFFERED).all()
            continue
        expected = reference.mochi_negatives(pairs.query[i], rows_of_query, hardest, 5, 3, draws[i].tolist())
        torch.testing.assert_close(made.own_negatives[i], torch.stack(expected), rtol=1e-9, atol=1e-12)
        assert (made.own_negative_index[i] == UNKNOWN).all()
    assert made.own_negative_kind.tolist() == [PAIR_MIX] * 5 + [QUERY_MIX] * 3


@small
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(3, 9))
def test_no_mixes_is_moco(seed: int, count: int, size: int) -> None:
    pairs = against_queue(seed, count, size)
    mixed = ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(pairs=0, queries=0)])(pairs)
    assert mixed.loss == ContrastiveLoss(InfoNCE(), 0.2)(pairs).loss


@small
@given(st.integers(0, 10_000), st.integers(2, 10))
def test_a_pair_mix_is_on_the_segment_of_two_different_offered_rows(seed: int, size: int) -> None:
    """By the places that it gives to `mix_pairs`: rows are one-hot, so that a mix shows what it is made of."""
    width = size + 3
    pairs = dataclasses.replace(
        against_queue(seed, 3, size, width=width), negatives=torch.eye(size, width, dtype=torch.float64)
    )
    own = HardNegativeMixing(hardest=size, pairs=20, queries=0, seed=seed)(pairs).own_negatives
    torch.testing.assert_close(own.norm(dim=-1), torch.ones(3, 20, dtype=torch.float64))
    for i in range(3):
        may = {int(row.argmax()) for row in offered(pairs, i)}
        for mix in own[i] if may else []:
            made_of = set(mix.nonzero().flatten().tolist())
            assert (mix >= 0).all()
            assert made_of <= may
            assert len(made_of) == min(2, len(may))


def test_what_a_bank_mined_for_a_query_is_mixed_too() -> None:
    pairs = against_queue(0, 4, 3, width=16)
    own = torch.nn.functional.normalize(pairs.query[:, None] + 0.5 * rows(7, 4, 3, 16), dim=-1)  # harder than the queue
    index = torch.tensor([50, NOT_OFFERED, 51]).expand(4, 3)
    kind = torch.tensor([MINED, MINED, PAIR_MIX])
    with_own = dataclasses.replace(pairs, own_negatives=own, own_negative_index=index, own_negative_kind=kind)
    hard, count = hardest_rows(with_own, 2)
    alone, _ = hardest_rows(pairs, 1)
    torch.testing.assert_close(hard[:, 0], own[:, 0])
    torch.testing.assert_close(hard[:, 1], alone[:, 0])
    assert count.tolist() == [2] * 4
    bank = dataclasses.replace(with_own, negatives=pairs.negatives[:0], negative_index=index[0, :0], placeholder=None)
    hard, count = hardest_rows(bank, 2)
    torch.testing.assert_close(hard[:, 0], own[:, 0])
    assert count.tolist() == [1] * 4
    mixed = HardNegativeMixing(hardest=2, pairs=3, queries=0, start_epoch=0)(bank)
    torch.testing.assert_close(mixed.own_negatives[:, 3:], own[:, :1].expand(-1, 3, -1))
    assert mixed.own_negative_kind.tolist() == [MINED, MINED, PAIR_MIX] + [PAIR_MIX] * 3


def test_a_query_mix_leans_to_the_negative() -> None:
    pairs = against_queue(0, 4, 12)
    own = HardNegativeMixing(hardest=1, pairs=0, queries=200)(pairs).own_negatives
    hard, _ = hardest_rows(pairs, 1)
    q, n = pairs.query[:, None], hard
    # h ∝ b q + (1 - b) n: its shares solve a 2 by 2 system, since q and n are not parallel.
    gram = torch.stack([(q * q).sum(-1), (q * n).sum(-1), (n * q).sum(-1), (n * n).sum(-1)], -1).view(4, 2, 2)
    sides = torch.stack([(own * q).sum(-1), (own * n).sum(-1)], dim=1)
    shares = torch.linalg.solve(gram, sides)
    b = shares[:, 0] / shares.sum(dim=1)
    torch.testing.assert_close(own.norm(dim=-1), torch.ones(4, 200, dtype=torch.float64))
    assert b.min() >= 0
    assert b.max() <= 0.5
    assert b.max() > 0.4  # and it does use the range
    assert b.mean().item() == pytest.approx(0.25, abs=0.02)


def test_each_step_sample_and_view_has_mixes_of_its_own() -> None:
    pairs = dataclasses.replace(in_batch(0, 4), query=rows(9, 1, 6).expand(8, 6))
    mixing = HardNegativeMixing(hardest=4, pairs=2, queries=0)
    mixing.begin_step(epoch=10, step=0)
    first = mixing(pairs).own_negatives
    assert not torch.allclose(first[0], first[4])  # two views of one sample
    mixing.begin_step(epoch=10, step=1)
    assert not torch.allclose(first, mixing(pairs).own_negatives)
    other = HardNegativeMixing(hardest=4, pairs=2, queries=0, seed=1)
    other.begin_step(epoch=10, step=0)
    assert not torch.allclose(first, other(pairs).own_negatives)


def test_mixing_starts_at_its_epoch_and_needs_no_hooks() -> None:
    pairs, mixing = in_batch(0, 4), HardNegativeMixing(hardest=2, pairs=1, queries=1, start_epoch=2)
    assert mixing(pairs).own_negatives is not None
    for epoch, mixed in ((0, False), (1, False), (2, True), (3, True)):
        mixing.begin_step(epoch, step=5)
        assert (mixing(pairs).own_negatives is not None) == mixed


def test_mixes_carry_no_gradient_to_what_they_are_made_of() -> None:
    query, queue = rows(0, 3, 6).requires_grad_(), rows(1, 9, 6).requires_grad_()
    hard = queue.expand(3, 9, 6)
    place, share = torch.randint(9, (3, 4)), torch.rand(3, 4, dtype=torch.float64)
    assert not mix_pairs(hard, place, place, share).requires_grad
    assert not mix_with_query(query, hard, place, share).requires_grad
    pairs = dataclasses.replace(in_batch(0, 4), query=rows(0, 8, 6).requires_grad_())
    assert not HardNegativeMixing(hardest=2, start_epoch=0, pairs=1, queries=1)(pairs).own_negatives.requires_grad


def test_mixes_stand_behind_own_negatives_that_there_are() -> None:
    pairs = dataclasses.replace(
        in_batch(0, 4), own_negatives=rows(5, 8, 2, 6), own_negative_index=torch.arange(16).view(8, 2)
    )
    once = HardNegativeMixing(hardest=2, pairs=1, queries=1, start_epoch=0)(pairs)
    twice = HardNegativeMixing(hardest=2, pairs=2, queries=0, start_epoch=0, seed=1)(once)
    assert torch.equal(twice.own_negatives[:, :2], pairs.own_negatives)
    assert torch.equal(twice.own_negatives[:, :4], once.own_negatives)
    assert torch.equal(twice.own_negative_index[:, :2], pairs.own_negative_index)
    assert (twice.own_negative_index[:, 2:] == UNKNOWN).all()
    assert twice.own_negative_kind.tolist() == [MINED, MINED, PAIR_MIX, QUERY_MIX, PAIR_MIX, PAIR_MIX]


def test_a_query_with_nothing_to_mine_has_no_mixes() -> None:
    pairs = against_queue(0, 3, 5, real=0)
    mixed = HardNegativeMixing(hardest=4, pairs=2, queries=1, start_epoch=0)(pairs)
    assert (mixed.own_negative_index == NOT_OFFERED).all()
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    assert loss.logits(mixed)[1].count.tolist() == [5, 5, 5]
    torch.testing.assert_close(loss(mixed).loss, loss(pairs).loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_draw_is_of_the_last_row(dtype: torch.dtype) -> None:
    """However many rows there are: a product in float32 must not round up to their number."""
    count = torch.arange(-1, 70_000)
    place = _place(torch.full((len(count), 1), 1 - 2.0**-24, dtype=dtype), count)[:, 0]
    assert torch.equal(place, (count - 1).clamp(min=0))
    assert not _place(torch.zeros(len(count), 1), count).any()
