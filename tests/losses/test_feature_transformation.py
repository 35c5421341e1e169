"""FT against loops, its identities, and who is a negative of whom once rows are mixed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.losses import (
    ContrastiveLoss,
    HardNegativeMixing,
    InfoNCE,
    NegativeInterpolation,
    PairTransform,
    PositiveExtrapolation,
    extrapolate,
    interpolate,
)
from contrast.losses.candidates import row_identity, row_permutation
from contrast.losses.hard_negative_mixing import hardest_rows
from contrast.randomness import Purpose
from tests.losses.examples import against_queue, in_batch, rows
from tests.reference import transforms as reference

small = settings(deadline=None, max_examples=15)


def draws(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@small
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 6))
def test_the_pure_functions_equal_the_loops(seed: int, count: int, width: int) -> None:
    query, key = rows(seed, count, width), rows(seed + 1, count, width)
    step = 1 + draws(seed, count, width)
    pairs = zip(extrapolate(query, key, step), reference.extrapolated(query, key, step), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected)
    permutation = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    share = draws(seed + 1, count, width)
    expected = reference.interpolated(query, permutation.tolist(), share)
    torch.testing.assert_close(interpolate(query, permutation, share), expected)


@small
@given(st.integers(0, 10_000), st.sampled_from(["step", "pair", "dimension"]))
def test_extrapolation_lowers_the_score_by_what_the_identity_says(seed: int, each: str) -> None:
    """s′ = s - Σ_d λ_d (λ_d - 1)(q_d - k_d)²; λ is read off the transformed query itself."""
    pairs = in_batch(seed, 5)
    moved = PositiveExtrapolation(each=each, seed=seed)(pairs)
    gap = pairs.query - pairs.positive
    step = (moved.query - pairs.positive) / gap
    if each == "step":
        assert step.std() < 1e-9
    elif each == "pair":
        assert step.std(dim=1).max() < 1e-9
        assert step[:, 0].unique().numel() == len(step)
    else:
        assert step.std(dim=1).min() > 1e-3
    assert ((step >= 1 - 1e-9) & (step <= 2 + 1e-9)).all()
    score, after = ((each.query * each.positive).sum(dim=-1) for each in (pairs, moved))
    torch.testing.assert_close(after, score - (step * (step - 1) * gap**2).sum(dim=-1), rtol=1e-9, atol=1e-9)
    assert (after <= score).all()


def test_a_step_of_one_changes_nothing() -> None:
    query, key = rows(0, 4, 6), rows(1, 4, 6)
    for found, expected in zip(extrapolate(query, key, torch.tensor(1.0)), (query, key), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(interpolate(query, torch.tensor([1, 0, 3, 2]), torch.tensor(1.0)), query)


@pytest.mark.parametrize("heads", [0, 3])
def test_the_rows_of_interpolated_negatives_are_mixes_of_the_two_that_are_named(heads: int) -> None:
    for each in ("step", "row", "dimension"):
        pairs = against_queue(0, 3, 12, heads=heads)
        mixed = NegativeInterpolation(each=each)(pairs)
        of = mixed.negative_index
        assert torch.equal(of[:, 0], pairs.negative_index)
        assert sorted(of[:, 1].tolist()) == sorted(of[:, 0].tolist())
        partner = [of[:, 0].tolist().index(int(second)) for second in of[:, 1]]  # samples are distinct here
        first, second = pairs.negatives, pairs.negatives[..., partner, :]
        moved = torch.tensor([place != mate for place, mate in enumerate(partner)])
        share = ((mixed.negatives - second) / (first - second))[..., moved, :]
        assert ((share >= -1e-9) & (share <= 1 + 1e-9)).all()
        torch.testing.assert_close(mixed.negatives[..., ~moved, :], first[..., ~moved, :])
        spread = {"step": share.flatten(), "row": share.movedim(-2, 0).flatten(1), "dimension": share}[each]
        if each == "dimension":
            assert spread.std(dim=-1).min() > 1e-4
            assert not heads or (share[0] - share[1]).abs().max() > 1e-3  # each head's dimensions have their own
        else:
            assert spread.std(dim=-1).max() < 1e-8
            assert each == "step" or spread[:, 0].unique().numel() > 1


@small
@given(st.integers(0, 10_000), st.integers(3, 6))
def test_a_row_that_is_partly_ones_own_is_no_negative(seed: int, count: int) -> None:
    pairs = in_batch(seed, count)
    excluded = torch.stack([torch.arange(2 * count), torch.full((2 * count,), -1)], dim=1).roll(1, 0)
    pairs = dataclasses.replace(pairs, excluded=excluded)
    mixed = NegativeInterpolation(seed=seed)(pairs)
    keys = (seed, 0, Purpose.NEGATIVE_INTERPOLATION)
    partner = row_permutation(row_identity(pairs.negative_index), keys).tolist()
    (tile,) = ContrastiveLoss(InfoNCE()).logits(mixed)[1].tiles()
    for i in range(2 * count):
        for column in range(2 * count):
            parts = {column, partner[column]}
            own = any(pairs.negative_index[part] == pairs.index[i] for part in parts)
            assert tile.offered[i, column] == (not own and not parts & set(excluded[i].tolist()))


def test_a_mix_with_a_placeholder_is_never_mined() -> None:
    pairs = against_queue(0, 3, 12, real=7)
    mixed = NegativeInterpolation()(pairs)
    unreal = (mixed.negative_index == -1).any(dim=1)
    assert torch.equal(mixed.placeholder, unreal)
    assert 5 < unreal.sum() < 12
    found, count = hardest_rows(mixed, 12)
    for i in range(3):
        real = mixed.negatives[~unreal & ~(mixed.negative_index == i).any(dim=1)]
        mined = found[i, : count[i]]
        assert len(mined) == len(real)
        assert (mined[:, None] == real[None]).all(-1).any(1).all()


@pytest.mark.parametrize("make", [PositiveExtrapolation, NegativeInterpolation])
def test_renormalised_rows_are_the_others_at_unit_length(make: type[PairTransform]) -> None:
    pairs = in_batch(0, 4)
    plain, unit = make()(pairs), make(renormalise=True)(pairs)
    for name in ("query", "positive", "negatives"):
        expected = getattr(plain, name)
        if not torch.equal(expected, getattr(pairs, name)):
            expected = torch.nn.functional.normalize(expected, dim=-1)
        torch.testing.assert_close(getattr(unit, name), expected)
    changed = ("query", "positive") if make is PositiveExtrapolation else ("negatives",)
    for name in ("query", "positive", "negatives"):
        assert torch.equal(getattr(plain, name), getattr(pairs, name)) == (name not in changed)


@pytest.mark.parametrize("make", [PositiveExtrapolation, NegativeInterpolation])
def test_the_transform_starts_at_its_epoch_and_draws_anew_at_each_step(make: type[PairTransform]) -> None:
    pairs, transform = in_batch(0, 4), make(start_epoch=2)
    seen = []
    for epoch, changed in ((0, False), (1, False), (2, True), (3, True)):
        transform.begin_step(epoch, step=epoch)
        after = transform(pairs)
        assert (after is not pairs) == changed
        seen.append(after)
    name = "query" if make is PositiveExtrapolation else "negatives"
    assert not torch.allclose(getattr(seen[2], name), getattr(seen[3], name))
    other = make(seed=1)
    other.begin_step(3, step=3)
    assert not torch.allclose(getattr(seen[3], name), getattr(other(pairs), name))


def test_the_two_views_and_two_samples_have_a_step_of_their_own() -> None:
    pairs = in_batch(0, 3)
    same = dataclasses.replace(pairs, query=rows(5, 1, 6).expand(6, 6), positive=rows(6, 1, 6).expand(6, 6))
    moved = PositiveExtrapolation(each="pair")(same).query
    assert len({round(float(value), 9) for value in moved[:, 0]}) == 6


def test_gradient_reaches_the_query_through_both_rows_and_negatives_through_both_places() -> None:
    query, key = rows(0, 3, 6).requires_grad_(), rows(1, 3, 6)
    moved = extrapolate(query, key, torch.tensor(1.5))
    for each, factor in zip(moved, (1.5, -0.5), strict=True):
        (gradient,) = torch.autograd.grad(each.sum(), query, retain_graph=True)
        torch.testing.assert_close(gradient, torch.full_like(query, factor))
    negatives = rows(2, 4, 6).requires_grad_()
    mixed = interpolate(negatives, torch.tensor([1, 2, 3, 0]), torch.tensor(0.75))
    (gradient,) = torch.autograd.grad(mixed[1].sum(), negatives)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([0, 0.75, 0.25, 0], dtype=torch.float64))


def test_mixing_after_extrapolation_mixes_with_the_moved_query() -> None:
    pairs = in_batch(0, 4)
    moved = PositiveExtrapolation()(pairs)
    mixing = HardNegativeMixing(hardest=2, pairs=1, queries=2, start_epoch=0)
    after = ContrastiveLoss(InfoNCE(), 0.2, [PositiveExtrapolation(), mixing])(pairs).pairs[0]
    torch.testing.assert_close(after.own_negatives, mixing(moved).own_negatives)
    assert not torch.allclose(after.own_negatives, mixing(pairs).own_negatives)
