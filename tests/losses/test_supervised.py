"""SupCon and LOOK against slow loops, their properties, and what they refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.errors import InputError
from contrast.losses import (
    LOOK,
    AdaptiveTemperature,
    BadPairMining,
    ContrastiveLoss,
    InfoNCE,
    LearnedTemperature,
    Loss,
    SupCon,
)
from tests.golden_cases import cases, close
from tests.losses.examples import against_queue, in_batch, rows, with_gradient
from tests.reference.second_door import look, scalable_nca, sup_con, sup_con_queue

LABELS = torch.tensor([0, 1, 0, 2, -1, 1, 0, 3, 1, -1, 0, 2, 1, 0, 4, 1, 2, 0, 1, -1])
MADE: dict[str, Callable[[], Loss]] = {
    "SupCon": lambda: SupCon(LABELS, 0.2),
    "LOOK": lambda: LOOK(LABELS, 4, 0.2),
}


def gradients(pairs: Pairs, loss: Tensor) -> tuple[Tensor, ...]:
    inputs = (pairs.query, pairs.positive, pairs.negatives)
    return torch.autograd.grad(loss, inputs, materialize_grads=True)


@pytest.mark.parametrize("tau", [0.07, 0.5])
@pytest.mark.parametrize("count", [2, 6])
def test_sup_con_in_a_batch(count: int, tau: float) -> None:
    z1, z2 = rows(0, count, 6).requires_grad_(), rows(1, count, 6).requires_grad_()
    found = SupCon(LABELS, tau)(in_batch_pairs(z1, z2, torch.arange(count))).loss
    expected = sup_con(z1, z2, LABELS[:count].tolist(), tau)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    pairs = zip(torch.autograd.grad(found, (z1, z2)), torch.autograd.grad(expected, (z1, z2)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_sup_con_against_a_queue() -> None:
    pairs = with_gradient(against_queue(0, 6, 12))
    found = SupCon(LABELS, 0.2)(pairs).loss
    index, of = pairs.index.tolist(), pairs.negative_index.tolist()
    expected = sup_con_queue(pairs.query, pairs.positive, pairs.negatives, index, of, LABELS.tolist(), 0.2)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(gradients(pairs, found), gradients(pairs, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("neighbours", [1, 2, 4, 50])
@pytest.mark.parametrize("seed", range(4))
def test_look_against_a_queue(seed: int, neighbours: int) -> None:
    """Queries 4 (unlabelled), 3 and 7 (of rare classes) meet all that can stand in for neighbours."""
    pairs = with_gradient(against_queue(seed, 8, 12))
    loss = LOOK(LABELS, neighbours, 0.2)
    output = loss(pairs)
    index, of = pairs.index.tolist(), pairs.negative_index.tolist()
    expected = look(pairs.query, pairs.positive, pairs.negatives, index, of, LABELS.tolist(), neighbours, 0.2)
    torch.testing.assert_close(output.losses, expected.detach(), rtol=1e-10, atol=1e-14)
    for ours, theirs in zip(gradients(pairs, output.loss), gradients(pairs, expected.mean()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def of_memory(query: Tensor, memory: Tensor, index: Tensor) -> Pairs:
    """Queries against a memory of all samples; their own keys are beside the point."""
    return queue_pairs(query, torch.ones_like(query), memory, index, torch.arange(len(memory)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), tau=st.floats(0.05, 0.5), classes=st.integers(1, 6))
def test_look_of_all_rows_is_scalable_nca(seed: int, tau: float, classes: int) -> None:
    memory, query = rows(seed, 15, 6), rows(seed + 1, 5, 6).requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(15, generator=generator)[:5]
    labels = torch.arange(15) % classes  # at least two rows of every class
    found = LOOK(labels, neighbours=15, temperature=tau)(of_memory(query, memory, index)).loss
    expected = scalable_nca(query, memory, index.tolist(), labels.tolist(), tau)
    ours, theirs = (torch.autograd.grad(loss, query)[0] for loss in (found, expected))
    assert (found - expected).abs() <= 1e-12 * expected.abs().clamp(min=1e-3)
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max().clamp(min=1e-3)


def test_look_of_all_rows_is_scalable_nca_by_its_authors_code() -> None:
    seen = 0
    for _, parameters, arrays in cases("look_snca"):
        if parameters["margin"]:  # which LOOK does not have
            continue
        query = arrays["q"].requires_grad_()
        loss = LOOK(arrays["labels"], parameters["k"], parameters["tau"])
        found = loss(of_memory(query, arrays["bank"], arrays["index"])).loss
        close(found.detach(), arrays["loss"])
        close(torch.autograd.grad(found, query)[0], arrays["grad_q"])
        seen += 1
    assert seen >= 9


def test_where_look_differs_from_scalable_nca() -> None:
    """A query whose class has no other row: NCA drops it, LOOK takes its own key for a neighbour."""
    memory, query = rows(0, 4, 6), rows(1, 2, 6)
    labels, index = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1])
    pairs = of_memory(query, memory, index)
    losses = LOOK(labels, neighbours=4, temperature=0.2)(pairs).losses
    nca = scalable_nca(query, memory, index.tolist(), labels.tolist(), 0.2)
    torch.testing.assert_close(losses[1] / 2, nca)
    logits = torch.cat([pairs.positive[:1], memory[1:]]) @ query[0] / 0.2
    torch.testing.assert_close(losses[0], logits.logsumexp(0) - logits[0])


def test_a_label_of_its_own_or_none_makes_sup_con_nt_xent() -> None:
    pairs = in_batch(0, 6)
    expected = ContrastiveLoss(InfoNCE(), 0.3)(pairs).losses
    for labels in (torch.arange(6), torch.full((6,), -1)):
        torch.testing.assert_close(SupCon(labels, 0.3)(pairs).losses, expected)


def test_look_needs_no_row_of_the_query_and_no_placeholder() -> None:
    """What a query leaves out may be anything; unlabelled rows and a queue's random start vote for nothing."""
    pairs = against_queue(0, 6, 14, real=9)
    output = LOOK(LABELS, 3, 0.2)(pairs)
    silent = pairs.placeholder | (torch.where(pairs.negative_index >= 0, LABELS[pairs.negative_index], -1) < 0)
    assert silent.sum() > 5
    moved = torch.where(silent[:, None], rows(9, 14, 6), pairs.negatives)
    torch.testing.assert_close(LOOK(LABELS, 3, 0.2)(dataclasses.replace(pairs, negatives=moved)).loss, output.loss)
    every = dataclasses.replace(pairs, placeholder=torch.ones(14, dtype=torch.bool))
    assert not LOOK(LABELS, 3, 0.2)(every).losses.any()
    labelled = LABELS[:6] >= 0
    other = dataclasses.replace(pairs, positive=rows(8, 6, 6))
    same = LOOK(LABELS, 3, 0.2)(other).losses == output.losses
    assert same[[0, 1, 2, 5]].all()  # their own key is no neighbour
    assert not same[~labelled].any()


def test_columns_that_a_query_leaves_out_are_no_neighbours_and_no_positives() -> None:
    pairs = against_queue(0, 4, 8)
    excluded = torch.tensor([[0, 5], [5, -1], [2, 3], [-1, -1]])
    kept = [[j for j in range(8) if j not in row] for row in excluded.tolist()]
    for made in MADE.values():
        losses = made()(dataclasses.replace(pairs, excluded=excluded)).losses
        for i, columns in enumerate(kept):
            one = queue_pairs(
                pairs.query[i : i + 1], pairs.positive[i : i + 1], pairs.negatives[columns], pairs.index[i : i + 1],
                pairs.negative_index[columns], pairs.placeholder[columns],
            )  # fmt: skip
            torch.testing.assert_close(made()(one).losses[0], losses[i])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 8))
@pytest.mark.parametrize("name", MADE)
def test_order_and_one_head_do_not_matter(name: str, seed: int, count: int) -> None:
    z1, z2 = rows(seed, count, 5), rows(seed + 1, count, 5)
    index = torch.randperm(20, generator=torch.Generator().manual_seed(seed))[:count]
    expected = MADE[name]()(in_batch_pairs(z1, z2, index)).loss
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(MADE[name]()(in_batch_pairs(z1[order], z2[order], index[order])).loss, expected)
    torch.testing.assert_close(MADE[name]()(in_batch_pairs(z1[None], z2[None], index)).loss, expected)


@pytest.mark.parametrize("name", MADE)
def test_heads_are_summed(name: str) -> None:
    pairs = against_queue(0, 5, 9, heads=3)
    alone = [
        dataclasses.replace(pairs, query=pairs.query[h], positive=pairs.positive[h], negatives=pairs.negatives[h])
        for h in range(3)
    ]
    expected = torch.stack([MADE[name]()(each).losses for each in alone]).sum(dim=0)
    torch.testing.assert_close(MADE[name]()(pairs).losses, expected)


@pytest.mark.parametrize("made", [lambda **kw: SupCon(LABELS, **kw), lambda **kw: LOOK(LABELS, 4, **kw)])
def test_temperatures_learn_and_a_weighting_weighs(made: Callable[..., Loss]) -> None:
    torch.manual_seed(0)
    for temperature in (LearnedTemperature(0.3).double(), AdaptiveTemperature(6, 8).double()):
        made(temperature=temperature)(against_queue(0, 6, 12)).loss.backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in temperature.parameters())
    loss = made(weighting=BadPairMining(6, warmup_epochs=1, noisy=0.1, faulty=0.1))
    for epoch in range(2):
        loss.begin_epoch(epoch)
        output = loss(against_queue(epoch, 6, 12))
    assert (output.weights < 1).any()
    torch.testing.assert_close(output.loss, (output.weights * output.losses).mean())


@pytest.mark.parametrize("made", [lambda: SupCon(LABELS, 0.001), lambda: LOOK(LABELS, 4, 0.001)])
def test_finite_at_low_temperature_in_half_precision_with_duplicates(made: Callable[[], Loss]) -> None:
    pairs = against_queue(0, 8, 12)
    same = pairs.query[:1].expand(12, -1)
    for negatives in (pairs.negatives, same, pairs.negatives[:0]):
        count = len(negatives)
        query = pairs.query.to(torch.bfloat16).requires_grad_()
        low = queue_pairs(
            query, pairs.positive.to(torch.bfloat16), negatives.to(torch.bfloat16), pairs.index,
            pairs.negative_index[:count], pairs.placeholder[:count],
        )  # fmt: skip
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = made()(low)
        output.loss.backward()
        assert output.losses.dtype == torch.float32
        assert output.losses.isfinite().all()
        assert query.grad.isfinite().all()


def test_a_row_made_of_two_samples_is_of_a_class_if_both_are() -> None:
    pairs = against_queue(0, 2, 3)
    of = torch.tensor([[6, 10], [6, 5], [7, 7]])  # classes 0 and 0, 0 and 1, 3
    two = dataclasses.replace(pairs, negative_index=of, placeholder=None)
    one = dataclasses.replace(pairs, negative_index=torch.tensor([6, 7, 7]), placeholder=None)
    torch.testing.assert_close(SupCon(LABELS)(two).losses[0], SupCon(LABELS)(one).losses[0])


def test_what_is_refused_in_one_line() -> None:
    pairs = against_queue(0, 4, 8)
    for made in (SupCon, LOOK):
        with pytest.raises(InputError, match=rf"^{made.__name__} learns from labels: give `labels`"):
            made()
        with pytest.raises(InputError, match=rf"^{made.__name__} finds positives among shared rows by label"):
            made(LABELS)(
                dataclasses.replace(
                    pairs, extra_positives=rows(0, 4, 2, 6), extra_positive_index=torch.full((4, 2), -1)
                )
            )
    with pytest.raises(InputError, match=r"LOOK's neighbours 0 is below 1"):
        LOOK(LABELS, 0)
