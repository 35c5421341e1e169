"""Subsets of labels: stratified, nested, keyed by the seed alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.errors import InputError
from contrast.evaluation import held_out_split, label_subset

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(torch.tensor)


@settings(deadline=None, max_examples=40)
@given(LABELS, st.integers(0, 50), st.floats(0.01, 1), st.floats(0.01, 1))
def test_smaller_fractions_lie_within_larger_ones(labels, seed, one, other):
    small, large = sorted((one, other))
    inner, outer = label_subset(labels, seed, fraction=small), label_subset(labels, seed, fraction=large)
    assert set(inner.tolist()) <= set(outer.tolist())
    for label in labels.unique().tolist():
        count = int((labels == label).sum())
        assert int((labels[inner] == label).sum()) == max(1, round(count * small))
    assert inner.tolist() == sorted(set(inner.tolist()))


def test_few_labels_lie_within_a_fraction():
    labels = torch.arange(600) % 3
    few, tenth = label_subset(labels, 4, per_class=10), label_subset(labels, 4, fraction=0.1)
    assert labels[few].bincount().tolist() == [10, 10, 10]
    assert set(few.tolist()) < set(tenth.tolist())


def test_all_labels_are_all_labels():
    labels = torch.tensor([2, 0, 0, 1])
    assert label_subset(labels, 0, fraction=1.0).tolist() == [0, 1, 2, 3]


def test_a_subset_is_of_its_seed():
    labels = torch.arange(200) % 4
    assert label_subset(labels, 0, fraction=0.1).tolist() == label_subset(labels, 0, fraction=0.1).tolist()
    assert label_subset(labels, 0, fraction=0.1).tolist() != label_subset(labels, 1, fraction=0.1).tolist()


@settings(deadline=None, max_examples=40)
@given(LABELS, st.integers(0, 50))
def test_the_held_out_part_is_a_stratified_fifth_that_leaves_every_class(labels, seed):
    fit, held = held_out_split(labels, seed)
    assert sorted(fit.tolist() + held.tolist()) == list(range(len(labels)))
    for label in labels.unique().tolist():
        count, out = int((labels == label).sum()), int((labels[held] == label).sum())
        assert out == (0 if count == 1 else max(1, round(count / 5)))
        assert count - out >= 1


def test_the_held_out_part_is_another_draw_than_the_subset():
    labels = torch.zeros(100, dtype=torch.int64)
    assert label_subset(labels, 0, fraction=0.2).tolist() != held_out_split(labels, 0)[1].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a fraction"),
        ({"fraction": 0.5, "per_class": 2}, "either a fraction"),
        ({"fraction": 0.0}, "fraction of 0.0 labels"),
        ({"fraction": 1.5}, "fraction of 1.5 labels"),
        ({"per_class": 3}, "3 labels per class, but class 7 has 2: give 1 to 2"),
        ({"per_class": 0}, "0 labels per class"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        label_subset(torch.tensor([1, 1, 1, 7, 7]), 0, **arguments)
