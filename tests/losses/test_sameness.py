"""What must not change a loss: the order of a batch or a queue, and one head written as an axis."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch

from contrast import Pairs, cross_pairs, in_batch_pairs
from contrast.losses import BadPairMining, ContrastiveLoss, FixedTemperature, Temperature
from tests.losses.examples import OBJECTIVES, TRANSFORMS, adaptive, against_queue, in_batch, learned, rows

TEMPERATURES: dict[str, Callable[[], Temperature]] = {
    "fixed": lambda: FixedTemperature(0.2),
    "learned": learned,
    "adaptive": adaptive,
}


def choices() -> Iterator[tuple[str, str, str]]:
    """Every transform over two objectives, then every temperature and every objective over all transforms."""
    yield from itertools.product(["InfoNCE", "DCLW"], ["fixed"], TRANSFORMS)
    yield from itertools.product(["InfoNCE"], ["learned", "adaptive"], ["all"])
    yield from itertools.product(OBJECTIVES.keys() - {"InfoNCE", "DCLW"}, ["fixed"], ["all"])


def make_loss(objective: str, temperature: str, transforms: str) -> ContrastiveLoss:
    return ContrastiveLoss(OBJECTIVES[objective](), TEMPERATURES[temperature](), TRANSFORMS[transforms]())


def mined() -> BadPairMining:
    """A weighting that flags every second sample of nine."""
    weighting = BadPairMining(9, warmup_epochs=1, noisy=0.0, faulty=0.0)
    weighting.begin_epoch(0)
    weighting(torch.arange(9).remainder(2) * 4.0, torch.arange(9))
    weighting.begin_epoch(1)
    return weighting


every_loss = pytest.mark.parametrize(
    "make", [pytest.param(partial(make_loss, *each), id=", ".join(each)) for each in sorted(choices())]
)


@every_loss
@pytest.mark.parametrize("heads", [0, 3])
def test_a_shuffled_batch_has_the_same_losses(make: Callable[[], ContrastiveLoss], heads: int) -> None:
    z1, z2 = (rows(seed, *([heads] if heads else []), 6, 6) for seed in (0, 1))
    order = torch.tensor([4, 0, 5, 3, 1, 2])
    loss, index = make(), torch.arange(6)
    loss.weighting = mined()
    straight = loss(in_batch_pairs(z1, z2, index))
    shuffled = loss(in_batch_pairs(z1[..., order, :], z2[..., order, :], index[order]))
    torch.testing.assert_close(shuffled.loss, straight.loss)
    both = torch.cat([order, order + 6])
    torch.testing.assert_close(shuffled.losses, straight.losses[both])
    torch.testing.assert_close(shuffled.weights, straight.weights[both])
    assert straight.weights.unique().numel() > 1


@every_loss
@pytest.mark.parametrize("heads", [0, 3])
def test_the_order_of_a_queue_and_of_its_queries_changes_nothing(
    make: Callable[[], ContrastiveLoss], heads: int
) -> None:
    """Of a queue whose rows are of one sample each: rows of no known sample have nothing but their place."""
    pairs, loss = against_queue(0, 4, 9, heads=heads, real=9), make()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    moved = dataclasses.replace(
        pairs, negatives=pairs.negatives[..., order, :], negative_index=pairs.negative_index[order],
        placeholder=pairs.placeholder[order],
    )  # fmt: skip
    torch.testing.assert_close(loss(moved).losses, loss(pairs).losses)
    turn = torch.tensor([2, 0, 3, 1])
    turned = dataclasses.replace(
        pairs, query=pairs.query[..., turn, :], positive=pairs.positive[..., turn, :], index=turn
    )  # fmt: skip
    torch.testing.assert_close(loss(turned).losses, loss(pairs).losses[turn])


def with_head_axis(pairs: Pairs) -> Pairs:
    return dataclasses.replace(
        pairs, query=pairs.query[None], positive=pairs.positive[None], negatives=pairs.negatives[None]
    )


@every_loss
@pytest.mark.parametrize("pairs", [in_batch(0, 4), against_queue(0, 4, 9)], ids=["in-batch", "queue"])
def test_one_head_as_an_axis_is_no_head(make: Callable[[], ContrastiveLoss], pairs: Pairs) -> None:
    loss = make()
    torch.testing.assert_close(loss(with_head_axis(pairs)).losses, loss(pairs).losses)


@every_loss
def test_a_step_is_a_function_of_its_number_alone(make: Callable[[], ContrastiveLoss]) -> None:
    """No state from step to step: a run resumed at step 7 has the mixes of a run that came there."""
    pairs, went, resumed = in_batch(0, 4), make(), make()
    for step in (3, 7):
        went.begin_step(epoch=0, step=step)
        found = went(pairs).loss
    resumed.begin_step(epoch=0, step=7)
    assert resumed(pairs).loss == found


def test_cross_pairs_are_a_cross_entropy_over_the_positives_of_the_batch() -> None:
    query, positive = rows(0, 5, 6), rows(1, 5, 6)
    pairs = cross_pairs(query, positive, torch.arange(5), view=1)
    output = ContrastiveLoss(OBJECTIVES["InfoNCE"](), 0.2)(pairs)
    expected = torch.nn.functional.cross_entropy(query @ positive.T / 0.2, torch.arange(5), reduction="none")
    torch.testing.assert_close(output.losses, expected)
    assert pairs.view.tolist() == [1] * 5
    heads = cross_pairs(query[None], positive[None], torch.arange(5))
    assert heads.negatives.shape == (1, 5, 6)
    torch.testing.assert_close(ContrastiveLoss(OBJECTIVES["InfoNCE"](), 0.2)(heads).losses, expected)
