"""False negatives against a loop over queries that reads like the definition."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast import Pairs
from contrast.losses import (
    DCL,
    ContrastiveLoss,
    FalseNegativeAttraction,
    FalseNegativeRemoval,
    HardNegativeMixing,
    InfoNCE,
)
from contrast.pairs import MINED, NOT_OFFERED, QUERY_MIX, UNKNOWN
from tests.losses.examples import OBJECTIVES, against_queue, in_batch, rows, with_gradient

TAU = 0.2


def with_own(pairs: Pairs, count: int = 5) -> Pairs:
    """Own rows besides: the first two of other samples, one that is not there, one unknown, one mix."""
    front = pairs.query.shape[:-1]
    index = torch.tensor([50, 51, NOT_OFFERED, UNKNOWN, UNKNOWN]).expand(len(pairs.index), count)
    kind = torch.tensor([MINED, MINED, MINED, MINED, QUERY_MIX])
    own = rows(9, *front, count, pairs.query.shape[-1])
    return dataclasses.replace(pairs, own_negatives=own, own_negative_index=index, own_negative_kind=kind)


SOURCES = {
    "in-batch": lambda seed, heads: in_batch(seed, 5, heads=heads),
    "queue": lambda seed, heads: against_queue(seed, 4, 9, heads=heads),
    "queue and own": lambda seed, heads: with_own(against_queue(seed, 4, 9, heads=heads)),
    "own alone": lambda seed, heads: with_own(against_queue(seed, 4, 0, heads=heads, real=0)),
}


def candidates(pairs: Pairs, b: int) -> list[tuple[float, Tensor, bool]]:
    """Every negative of query b: its score over heads, its row, and whether it may be judged."""
    query, found = pairs.query[..., b, :], []
    for k in range(pairs.negatives.shape[-2]):
        if pairs.negative_index[k] == pairs.index[b] and pairs.index[b] >= 0:
            continue
        row = pairs.negatives[..., k, :]
        real = pairs.placeholder is None or not pairs.placeholder[k]
        found.append(((query * row).sum(-1).mean().item(), row, real))
    if pairs.own_negatives is not None:
        for s in range(pairs.own_negatives.shape[-2]):
            if pairs.own_negative_index[b, s] == NOT_OFFERED:
                continue
            row = pairs.own_negatives[..., b, s, :]
            found.append(((query * row).sum(-1).mean().item(), row, bool(pairs.own_negative_kind[s] == MINED)))
    return found


def slow_losses(pairs: Pairs, most: int, threshold: float, attract: bool, decoupled: bool) -> Tensor:
    losses = []
    for b in range(len(pairs.index)):
        query, offered = pairs.query[..., b, :], candidates(pairs, b)
        near = sorted((each for each in offered if each[2]), key=lambda each: -each[0])[:most]
        false = [row for score, row, _ in near if score > threshold]
        left = [row for _, row, _ in offered if not any(row is gone for gone in false)]
        partition = sum(torch.exp((query * row).sum(-1) / TAU) for row in left)
        parts = []
        for positive in [pairs.positive[..., b, :], *(false if attract else [])]:
            numerator = torch.exp((query * positive).sum(-1) / TAU)
            parts.append(-torch.log(numerator / (partition + (0 if decoupled else numerator))))
        losses.append((sum(parts) / len(parts)).sum())  # over heads
    return torch.stack(losses)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(SOURCES)),
    st.sampled_from([0, 1, 2]),
    st.integers(1, 12),
    st.sampled_from([-1.0, 0.0, 0.3, 0.6]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_losses_and_gradients_are_those_of_the_loop(
    source: str, heads: int, most: int, threshold: float, attract: bool, decoupled: bool, seed: int
) -> None:
    pairs = with_gradient(SOURCES[source](seed, heads))
    transform = (FalseNegativeAttraction if attract else FalseNegativeRemoval)(most, threshold)
    expected = slow_losses(pairs, most, threshold, attract, decoupled)
    if torch.isinf(expected).any():
        return  # DCL without a negative left
    output = ContrastiveLoss(DCL() if decoupled else InfoNCE(), TAU, [transform])(pairs)
    torch.testing.assert_close(output.losses, expected.detach(), rtol=1e-9, atol=1e-9)
    leaves = [pairs.query, pairs.positive, pairs.negatives]
    ours = torch.autograd.grad(output.loss, leaves, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad(expected.mean(), leaves, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("made", [FalseNegativeRemoval, FalseNegativeAttraction])
def test_a_threshold_that_none_passes_changes_nothing(made: type[FalseNegativeRemoval]) -> None:
    pairs = with_own(against_queue(0, 4, 9))
    plain, judged = (ContrastiveLoss(InfoNCE(), TAU, transforms)(pairs) for transforms in ([], [made(3, 1.01)]))
    torch.testing.assert_close(judged.losses, plain.losses)


def test_nothing_is_judged_before_the_start_epoch() -> None:
    pairs, transform = in_batch(0, 5), FalseNegativeRemoval(2, -1.0, start_epoch=3)
    for epoch, changed in ((0, False), (2, False), (3, True)):
        transform.begin_step(epoch, step=7)
        assert (transform(pairs).excluded is not None) == changed


def test_what_was_left_out_stays_out_and_is_not_judged_again() -> None:
    pairs = in_batch(0, 5)
    twice = FalseNegativeRemoval(2, -1.0)(FalseNegativeRemoval(2, -1.0)(pairs))
    once = FalseNegativeRemoval(4, -1.0)(pairs)
    ours, theirs = (ContrastiveLoss(InfoNCE(), TAU)(each).losses for each in (twice, once))
    torch.testing.assert_close(ours, theirs)


def test_mixing_behind_it_mines_no_false_negative() -> None:
    pairs = in_batch(0, 5)
    judged = FalseNegativeRemoval(7, -1.0)(pairs)  # one of eight is left
    mixed = HardNegativeMixing(hardest=4, pairs=3, queries=0, start_epoch=0)(judged)
    kept = ContrastiveLoss(InfoNCE(), TAU).logits(judged)[1].hardest()[0]
    scores = torch.einsum("bd,bsd->bs", pairs.query, mixed.own_negatives)
    torch.testing.assert_close(scores, kept[:, None].expand(-1, 3))


def test_extra_positives_carry_their_samples() -> None:
    made = FalseNegativeAttraction(3, 0.0)(with_own(against_queue(0, 4, 9)))
    for b in range(4):
        for p in range(3):
            sample, row = int(made.extra_positive_index[b, p]), made.extra_positives[b, p]
            if sample == NOT_OFFERED:
                continue
            shared = (made.negatives == row).all(-1)
            own = (made.own_negatives[b] == row).all(-1)
            if shared.any():
                assert made.negative_index[shared].tolist() == [sample]
                assert int(shared.nonzero()) in made.excluded[b].tolist()
            else:
                assert sample in (50, 51, UNKNOWN)
                assert made.own_negative_index[b][own].tolist() == [NOT_OFFERED]


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"DCLW"}))  # DCLW compares queries
def test_any_objective_is_averaged_over_the_positives(objective: str) -> None:
    made = FalseNegativeAttraction(1, -1.0)(in_batch(0, 5))
    loss = ContrastiveLoss(OBJECTIVES[objective](), TAU)
    alone = dataclasses.replace(made, extra_positives=None, extra_positive_index=None)
    parts = [
        loss(dataclasses.replace(alone, positive=row)).losses for row in (made.positive, made.extra_positives[:, 0])
    ]
    torch.testing.assert_close(loss(made).losses, sum(parts) / 2)
