"""The class oracle and the table of labels."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast import Pairs
from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, HardNegativeMixing, InfoNCE, NegativeInterpolation, SameClassRemoval
from contrast.losses.hard_negative_mixing import hardest_rows
from contrast.losses.labels import LabelTable
from tests.losses.examples import against_queue, in_batch

small = settings(deadline=None, max_examples=20)


def offered(pairs: Pairs) -> torch.Tensor:
    (tile,) = ContrastiveLoss(InfoNCE()).logits(pairs)[1].tiles()
    return tile.offered


@small
@given(st.integers(0, 10_000), st.integers(1, 4), st.booleans(), st.booleans())
def test_what_is_of_the_querys_class_is_left_out(seed: int, classes: int, queue: bool, mixed: bool) -> None:
    labels = torch.randint(-1, classes, (30,), generator=torch.Generator().manual_seed(seed))
    pairs = against_queue(seed, 4, 9) if queue else in_batch(seed, 4)
    pairs = dataclasses.replace(pairs, excluded=torch.full((len(pairs.index), 1), 2))
    pairs = NegativeInterpolation(seed=seed)(pairs) if mixed else pairs
    before, after = offered(pairs), offered(SameClassRemoval(labels)(pairs))
    of = pairs.negative_index.reshape(pairs.negatives.shape[-2], -1)
    for i, sample in enumerate(pairs.index.tolist()):
        for column in range(len(of)):
            classes_there = {int(labels[int(each)]) for each in of[column] if each >= 0} - {-1}
            assert after[i, column] == (before[i, column] and int(labels[sample]) not in classes_there)


def test_before_mixing_it_keeps_false_negatives_from_being_mined() -> None:
    pairs = SameClassRemoval(torch.arange(30) % 2)(against_queue(0, 4, 9))
    found, count = hardest_rows(pairs, 9)
    for i in range(4):
        real = [
            row for row, of in zip(pairs.negatives, pairs.negative_index, strict=True) if of >= 0 and of % 2 != i % 2
        ]
        assert len(real) == count[i]
        assert all(any(torch.equal(row, mine) for mine in found[i, : count[i]]) for row in real)


def test_a_banks_rows_of_the_querys_class_are_left_out() -> None:
    labels = torch.tensor([0, 1, 0, 1, -1])
    pairs = in_batch(0, 5)  # the last one without a label: nothing is known to be of its class
    own_index = torch.tensor([[0, 1, 2, 4, -1, -2]]).expand(len(pairs.index), -1)
    own = torch.ones(len(pairs.index), 6, pairs.query.shape[-1], dtype=pairs.query.dtype)
    kept = SameClassRemoval(labels)(dataclasses.replace(pairs, own_negatives=own, own_negative_index=own_index))
    for sample, left in zip(pairs.index.tolist(), kept.own_negative_index.tolist(), strict=True):
        same = labels[sample]
        assert left == [-2 if same == 0 else 0, -2 if same == 1 else 1, -2 if same == 0 else 2, 4, -1, -2]


def test_with_one_class_nothing_is_left() -> None:
    pairs = in_batch(0, 4)
    transforms = [SameClassRemoval(torch.zeros(4, dtype=torch.int64)), HardNegativeMixing(2, 1, 1, start_epoch=0)]
    loss = ContrastiveLoss(InfoNCE(), 0.2, transforms)
    output = loss(pairs)
    assert output.loss == 0
    assert loss.logits(output.pairs[0])[1].count.tolist() == [0] * 8


def test_pairs_without_shared_negatives() -> None:
    pairs = in_batch(0, 4)
    none = dataclasses.replace(pairs, negatives=pairs.negatives[:0], negative_index=pairs.negative_index[:0])
    transforms = [
        SameClassRemoval(torch.arange(4)),
        HardNegativeMixing(2, 1, 1, start_epoch=0),
        NegativeInterpolation(),
    ]
    assert ContrastiveLoss(InfoNCE(), 0.2, transforms)(none).loss == 0


def test_labels_are_looked_up_by_sample() -> None:
    table = LabelTable("SupCon", torch.tensor([5, -1, 7]))
    assert table(torch.tensor([[2, 0], [1, -1], [-2, 2]])).tolist() == [[7, 5], [-1, -1], [-1, 7]]
    assert table(torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert not table.state_dict()
    with pytest.raises(InputError, match="no label for sample 3 among 3"):
        table(torch.tensor([0, 3]))
