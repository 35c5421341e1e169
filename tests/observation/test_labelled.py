"""What a step of SupCon and of LOOK shows of its negatives, against loops over every row."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from contrast.losses import LOOK, LearnedTemperature, SupCon
from contrast.observation import observe
from contrast.observation.hardness import hardest_negatives
from tests.losses.examples import against_queue, in_batch
from tests.observation.test_observe import compared
from tests.reference.labelled_observation import labelled_queries_of
from tests.reference.observation import described, ranked

CLASSES = torch.tensor([0, 1, 0, 2, -1, 1, 0, 3, 1, -1, 0, 2, 1, 0, 4, 1, 2, 0, 1, -1])
OTHERS = torch.arange(20) % 3
"""Labels that only the observer has: with the loss's own no negative is false."""
LOSSES = {
    "SupCon": lambda: SupCon(CLASSES, 0.3),
    "LOOK": lambda: LOOK(CLASSES, 3, 0.3),
    "LOOK, all": lambda: LOOK(CLASSES, 50, 0.3),
}


@pytest.mark.parametrize("labels", [None, CLASSES, OTHERS], ids=["unlabelled", "its own", "others"])
@pytest.mark.parametrize("source", [in_batch, against_queue])
@pytest.mark.parametrize("name", LOSSES)
def test_a_row_is_what_loops_find(name: str, source: Any, labels: torch.Tensor | None) -> None:
    """Queries 4 (unlabelled), 3 and 7 (of rare classes) have no positive but their own."""
    loss = LOSSES[name]()
    pairs = source(1, 8) if source is in_batch else source(1, 8, 14)
    expected = described(labelled_queries_of(loss, pairs, CLASSES, labels))
    row = observe(loss, loss(pairs), labels).row()
    compared(row, expected)
    assert row["temperature"]["value"] == pytest.approx(0.3)
    if labels is CLASSES:
        assert row["false_negatives"]["all"] == row["false_negatives"]["denominator"] == 0


@pytest.mark.parametrize("name", LOSSES)
def test_what_observers_ask_is_the_loss(name: str) -> None:
    loss = LOSSES[name]()
    for pairs in (in_batch(0, 8), against_queue(0, 8, 14), against_queue(0, 8, 14, heads=2)):
        torch.testing.assert_close(loss.of_logits(pairs, *loss.logits(pairs)), loss(pairs).losses)


@pytest.mark.parametrize("name", LOSSES)
def test_columns_that_are_left_out_are_seen_nowhere(name: str) -> None:
    loss = LOSSES[name]()
    excluded = torch.tensor([[0, 5], [5, -1], [2, 3], [-1, -1], [7, 9], [1, 2], [3, 13], [-1, 4]])
    pairs = dataclasses.replace(against_queue(1, 8, 14), excluded=excluded)
    compared(observe(loss, loss(pairs), OTHERS).row(), described(labelled_queries_of(loss, pairs, CLASSES, OTHERS)))


@pytest.mark.parametrize("name", LOSSES)
def test_heads_have_neighbours_of_their_own(name: str) -> None:
    loss = LOSSES[name]()
    pairs = against_queue(2, 6, 14, heads=2)
    alone = [
        dataclasses.replace(pairs, query=pairs.query[h], positive=pairs.positive[h], negatives=pairs.negatives[h])
        for h in range(2)
    ]
    queries = [query for each in alone for query in labelled_queries_of(loss, each, CLASSES, OTHERS)]
    compared(observe(loss, loss(pairs), OTHERS).row(), described(queries))


@pytest.mark.parametrize("name", LOSSES)
def test_the_hardest_negatives_of_a_query(name: str) -> None:
    loss, pairs = LOSSES[name](), against_queue(3, 6, 14)
    queries = labelled_queries_of(loss, pairs, CLASSES, None)
    assert any(query.negatives for query in queries)
    for shown, query in zip(hardest_negatives(loss, pairs, 4), queries, strict=True):
        expected = ranked(query.negatives)[:4]
        total = sum(each.gradient for each in query.negatives)
        assert [each.score for each in shown] == pytest.approx([each.score for each in expected])
        assert [each.share for each in shown] == pytest.approx([each.gradient / total for each in expected])


def test_a_learned_temperature_is_shown() -> None:
    loss = SupCon(CLASSES, LearnedTemperature(0.25))
    assert observe(loss, loss(in_batch(0, 6))).row()["temperature"]["value"] == pytest.approx(0.25)
