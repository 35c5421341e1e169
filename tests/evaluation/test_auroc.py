"""Macro AUROC against scikit-learn and against counting pairs; its error against a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from contrast.evaluation import AUROC, auroc_interval, macro_auroc


def case(samples: int, classes: int, seed: int, rounded: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that know something, and labels with every class among them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % classes
    logits = torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    logits[torch.arange(samples), labels] += 1.0
    return (logits.round() if rounded else logits), labels


def area_of_pairs(shares: torch.Tensor, labels: torch.Tensor, number: int) -> float:
    inside, outside = shares[labels == number, number].tolist(), shares[labels != number, number].tolist()
    won = sum((one > other) + 0.5 * (one == other) for one in inside for other in outside)
    return won / (len(inside) * len(outside))


@pytest.mark.parametrize("classes", [3, 9])
@pytest.mark.parametrize("rounded", [False, True])
def test_it_is_scikit_learn_s(classes: int, rounded: bool):
    logits, labels = case(60, classes, seed=classes, rounded=rounded)
    found = macro_auroc(logits, labels)
    assert found is not None
    expected = roc_auc_score(labels, logits.softmax(dim=1), multi_class="ovr", average="macro")
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_two_classes_have_the_area_of_either():
    logits, labels = case(40, 2, seed=0)
    found = macro_auroc(logits, labels)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(labels, logits.softmax(dim=1)[:, 1]), abs=1e-12)


@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 99))
def test_it_counts_pairs(samples: int, classes: int, seed: int):
    logits, labels = case(samples, classes, seed, rounded=True)
    shares = logits.softmax(dim=1)
    present = sorted(set(labels.tolist()))
    found = macro_auroc(logits, labels)
    assert found is not None
    expected = np.mean([area_of_pairs(shares, labels, number) for number in present])
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_a_class_that_is_not_tested_is_left_out():
    logits, labels = case(40, 4, seed=0)
    tested = labels != 2
    found = macro_auroc(logits[tested], labels[tested])
    shares = logits[tested].softmax(dim=1)
    assert found is not None
    assert found.value == pytest.approx(
        np.mean([area_of_pairs(shares, labels[tested], number) for number in (0, 1, 3)]), abs=1e-12
    )
    assert macro_auroc(logits, torch.full_like(labels, 3)) is None


@pytest.mark.parametrize("classes", [2, 5])
def test_the_error_is_what_a_bootstrap_finds(classes: int):
    logits, labels = case(300, classes, seed=1)
    found = macro_auroc(logits, labels)
    assert found is not None
    generator = torch.Generator().manual_seed(0)
    again = []
    for _ in range(400):
        # Within each class, so that every draw has all of them, as the components suppose.
        chosen = torch.cat(
            [
                (places := (labels == number).nonzero()[:, 0])[
                    torch.randint(len(places), (len(places),), generator=generator)
                ]
                for number in range(classes)
            ]
        )
        drawn = macro_auroc(logits[chosen], labels[chosen])
        assert drawn is not None
        again.append(drawn.value)
    assert found.error == pytest.approx(np.std(again), rel=0.15)


def test_perfect_ranks_have_no_error():
    labels = torch.arange(9) % 3
    found = macro_auroc(10.0 * torch.eye(3)[labels], labels)
    assert found == AUROC(1.0, 0.0)


def test_over_seeds_or_over_samples():
    found = [AUROC(0.9, 0.01), AUROC(0.92, 0.03)]
    interval, over = auroc_interval(found, seeds_differ=True)
    assert "2 seeds" in over
    assert interval.mean == pytest.approx(0.91)
    assert interval.high == 1.0  # Student's with one degree of freedom, within [0, 1]
    interval, over = auroc_interval(found, seeds_differ=False)
    assert "DeLong" in over
    assert interval.high - interval.low == pytest.approx(2 * 1.959964 * 0.02, rel=1e-6)
    assert "DeLong" in auroc_interval(found[:1], seeds_differ=True)[1]
