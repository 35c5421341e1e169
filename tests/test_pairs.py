"""What the three ways to pairs say of each row, and where gradient goes."""

from __future__ import annotations

import torch

from contrast import in_batch_pairs, queue_pairs
from contrast.pairs import cross_pairs
from tests.losses.examples import rows


def leaves(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    first, second, third = (rows(seed, *shape).requires_grad_() for seed in range(3))
    return first, second, third


def test_in_batch_each_view_is_the_others_positive_and_all_rows_are_negatives() -> None:
    z1, z2, _ = leaves(3, 4)
    pairs = in_batch_pairs(z1, z2, torch.tensor([7, 5, 9]))
    assert torch.equal(pairs.query, torch.cat([z1, z2]))
    assert torch.equal(pairs.positive, torch.cat([z2, z1]))
    assert torch.equal(pairs.negatives, pairs.query)
    assert pairs.index.tolist() == pairs.negative_index.tolist() == [7, 5, 9, 7, 5, 9]
    assert pairs.view.tolist() == [0, 0, 0, 1, 1, 1]
    assert pairs.placeholder is None
    for each in (pairs.query, pairs.positive, pairs.negatives):
        assert all(gradient.any() for gradient in torch.autograd.grad(each.sum(), (z1, z2), retain_graph=True))


def test_against_a_queue_the_query_alone_has_gradient() -> None:
    query, key, keys = leaves(3, 4)
    placeholder = torch.tensor([False, True, True])
    pairs = queue_pairs(query, key, keys, torch.arange(3), torch.tensor([4, -1, -1]), placeholder, view=1)
    assert pairs.query.requires_grad
    assert not pairs.positive.requires_grad
    assert not pairs.negatives.requires_grad
    assert torch.equal(pairs.positive, key)
    assert torch.equal(pairs.negatives, keys)
    assert pairs.negative_index.tolist() == [4, -1, -1]
    assert pairs.view.tolist() == [1, 1, 1]
    assert pairs.placeholder is placeholder


def test_across_rows_the_negatives_are_the_positives_with_gradient() -> None:
    for heads in ((), (2,)):
        query, positive, _ = leaves(*heads, 3, 4)
        pairs = cross_pairs(query, positive, torch.tensor([7, 5, 9]), view=1)
        assert torch.equal(pairs.query, query)
        assert torch.equal(pairs.positive, positive)
        assert torch.equal(pairs.negatives, positive)
        assert pairs.index.tolist() == pairs.negative_index.tolist() == [7, 5, 9]
        assert pairs.view.tolist() == [1, 1, 1]
        assert torch.autograd.grad(pairs.negatives.sum(), positive)[0].any()


def test_detached_pairs_are_the_same_without_gradient() -> None:
    query, key, keys = leaves(3, 4)
    pairs = queue_pairs(query, key, keys, torch.arange(3), torch.arange(3))
    apart = pairs.detached()
    assert not apart.query.requires_grad
    for name, value in vars(pairs).items():
        assert getattr(apart, name) is None if value is None else torch.equal(getattr(apart, name), value)
