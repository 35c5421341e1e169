"""Pairs merge what transforms do: an exclusion once made stays made, and own negatives are appended."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contrast import Pairs
from contrast.errors import InputError
from contrast.losses import (
    FalseNegativeAttraction,
    FalseNegativeRemoval,
    HardNegativeMixing,
    NegativeInterpolation,
    PairTransform,
    PositiveExtrapolation,
    SameClassRemoval,
    real_scores,
)
from contrast.losses.candidates import row_identity, row_permutation
from contrast.losses.exclusion import left_out
from contrast.losses.logits import own_negatives_offered
from contrast.pairs import MINED, NOT_OFFERED, PAIR_MIX, UNKNOWN, Negatives
from contrast.randomness import Purpose
from tests.losses.examples import LABELS, against_queue, in_batch, rows


class DropHardest(PairTransform):
    """The transform of docs/add_a_loss.md, for one head or several."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, pairs: Pairs) -> Pairs:
        score = real_scores(pairs)
        score = score.mean(dim=0) if score.ndim == 3 else score
        best, columns = score.topk(self.count)
        return pairs.without(columns.masked_fill(best.isneginf(), -1))


MADE: dict[str, Callable[[], PairTransform]] = {
    "removal": lambda: FalseNegativeRemoval(most=2, threshold=-0.2),
    "attraction": lambda: FalseNegativeAttraction(most=2, threshold=-0.2),
    "oracle": lambda: SameClassRemoval(LABELS),
    "mixing": lambda: HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0),
    "extrapolation": PositiveExtrapolation,
    "interpolation": NegativeInterpolation,
    "a stranger's": lambda: DropHardest(2),
}
REFUSED = {("interpolation", "interpolation"), ("interpolation", "attraction"), ("attraction", "attraction")}
SOURCES: dict[str, Callable[[int], Pairs]] = {
    "in-batch": lambda heads: in_batch(0, 5, heads=heads),
    "queue": lambda heads: against_queue(0, 5, 11, heads=heads),
    "bank": lambda heads: mined_by_a_bank(heads),
}


def mined_by_a_bank(heads: int) -> Pairs:
    """Shared rows, and four rows of each query of which a bank left one place empty."""
    pairs = against_queue(0, 5, 11, heads=heads)
    index = torch.tensor([[7, 8, 9, NOT_OFFERED]]).expand(5, -1)
    own = rows(4, *pairs.query.shape[:-1], 4, 6)
    return pairs.with_own(own, index, torch.full((4,), MINED))


def offered(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Which shared and which own negatives each query has."""
    return ~left_out(pairs, 0, pairs.negatives.shape[-2]), own_negatives_offered(pairs)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("first", "second"), [each for each in itertools.product(MADE, MADE) if each not in REFUSED])
def test_an_exclusion_once_made_stays_made(first: str, second: str, source: str) -> None:
    for heads in (0, 2):
        before = MADE[first]()(SOURCES[source](heads))
        after = MADE[second]()(before)
        shared, own = offered(before)
        then, own_then = offered(after)
        if second == "interpolation":  # a mix is a negative only if both of its rows were
            shared = shared & shared[:, partners(before)]
        assert not (then & ~shared).any(), (heads, "a shared negative came back")
        assert not (own_then[:, : own.shape[1]] & ~own).any(), (heads, "an own negative came back")
        assert own.shape[1] <= own_then.shape[1]
        if own.shape[1]:
            torch.testing.assert_close(after.own_negatives[..., : own.shape[1], :], before.own_negatives)
        if after.negative_index.ndim == 1:  # a bank is asked before the rows are mixed
            own_index = torch.full((len(own), 2), 70)
            bank = Negatives(
                rows(9, 3, 6), torch.tensor([60, 61, 62]), own=rows(8, len(own), 2, 6), own_index=own_index
            )
            after = after.with_bank([bank] * max(1, heads))
        assert torch.equal(offered(after)[0][:, : then.shape[1]], then)
        assert torch.equal(offered(after)[1][:, : own_then.shape[1]], own_then)


def partners(pairs: Pairs) -> Tensor:
    """The other row in each mix of an interpolation."""
    return row_permutation(row_identity(pairs.negative_index), (0, 0, Purpose.NEGATIVE_INTERPOLATION))


@pytest.mark.parametrize("first", [name for name in MADE if name not in ("interpolation", "mixing")])
def test_an_excluded_row_is_never_mixed(first: str) -> None:
    before = MADE[first]()(mined_by_a_bank(0))
    made = MADE["mixing"]()(before)
    shared, own = offered(before)
    for query in range(5):
        samples = set(before.negative_index[shared[query]].tolist())
        samples |= set(before.own_negative_index[query][own[query]].tolist())
        parents = made.own_negative_parents[query, own.shape[1] :]
        assert set(parents.flatten().tolist()) <= samples | {UNKNOWN}


def test_the_oracle_and_a_strangers_removal_of_one_leave_five() -> None:
    """Of 12 rows the own 2 are out, the class takes 4 of the other 10, and the hardest that is left 1."""
    pairs, labels = in_batch(0, 6), torch.arange(6) % 2
    for transforms in ([SameClassRemoval(labels), DropHardest(1)], [DropHardest(1), SameClassRemoval(labels)]):
        made = pairs
        for transform in transforms:
            made = transform(made)
        counts = offered(made)[0].sum(dim=1)
        if isinstance(transforms[0], SameClassRemoval):
            assert counts.tolist() == [5] * 12
        assert ((counts == 5) | (counts == 6)).all()  # the hardest may be of the class


def test_columns_of_own_negatives_follow_the_shared_ones() -> None:
    pairs = mined_by_a_bank(0)
    shared, own = offered(pairs)
    made = pairs.without(torch.tensor([[11, -1]] * 5)).without(torch.tensor([[2, 13]] * 5))
    then, own_then = offered(made)
    assert torch.equal(then.nonzero(), (shared & (torch.arange(11) != 2)).nonzero())
    assert own_then.tolist() == [[False, True, False, False]] * 5
    assert own.tolist() == [[True, True, True, False]] * 5
    assert made.own_negative_index.tolist() == [[NOT_OFFERED, 8, NOT_OFFERED, NOT_OFFERED]] * 5


def test_own_negatives_are_appended_with_their_kinds_and_parents() -> None:
    first = mined_by_a_bank(2)
    index, parents = torch.full((5, 1), UNKNOWN), torch.tensor([3, 4]).expand(2, 5, 1, 2)
    made = first.with_own(rows(5, 2, 5, 1, 6), index, torch.tensor([PAIR_MIX]), parents)
    assert made.own_negative_kind.tolist() == [MINED] * 4 + [PAIR_MIX]
    assert made.own_negative_parents[1, 2].tolist() == [[7, -1], [8, -1], [9, -1], [-1, -1], [3, 4]]
    again = made.with_own(rows(6, 2, 5, 1, 6), torch.full((5, 1), 12), torch.tensor([MINED]))
    assert again.own_negative_parents[0, 0, -2:].tolist() == [[3, 4], [12, -1]]
    torch.testing.assert_close(again.own_negatives[..., :5, :], made.own_negatives)
    assert first.own_negative_parents is None
    assert first.with_own(rows(6, 2, 5, 1, 6), index, torch.tensor([MINED])).own_negative_parents is None


def test_a_column_that_is_not_a_negative_is_refused() -> None:
    for column in (6, -2):
        with pytest.raises(
            InputError, match=rf"^Pairs.without got column {column} of 6 shared and 0 own negatives: give 0 to 5"
        ):
            in_batch(0, 3).without(torch.full((6, 1), column))
    with pytest.raises(InputError, match="got column 15 of 11 shared and 4 own"):
        mined_by_a_bank(0).without(torch.full((5, 1), 15))
