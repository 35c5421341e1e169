"""Listed observers: what they are given, how their rows are checked, and what happens when they fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from contrast.errors import InputError
from contrast.losses import (
    AdaptiveTemperature,
    BadPairMining,
    ContrastiveLoss,
    HardNegativeMixing,
    InfoNCE,
    Temperature,
)
from contrast.observation import (
    Histogram,
    ListedObserver,
    ObservedOutput,
    Observer,
    RawRows,
    checked_observers,
    observe,
    plain_row,
)
from contrast.observation.listed import RESERVED
from tests.losses.examples import LABELS, against_queue, in_batch, rows


class Keep(Observer):
    """Keeps what it is given; its row is what the test gives it."""

    def __init__(self, row: Any = None) -> None:
        self.given, self.blocks, self.inference = row, [], []

    def add_negatives(self, pairs: Any, block: Any) -> None:
        self.blocks.append((pairs, block))

    def add(self, loss: Any, output: Any) -> None:
        self.output = output
        self.inference.append(torch.is_inference_mode_enabled())

    def row(self) -> dict[str, Any]:
        return {} if self.given is None else self.given


def test_an_observer_is_given_the_step_as_the_loss_saw_it() -> None:
    loss = ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)])
    pairs = against_queue(1, 6, 14)
    output = loss(pairs)
    raw = RawRows(torch.randn(6, 8), torch.randn(6, 6), torch.arange(6))
    keep = Keep()
    observe(loss, output, LABELS, raw, queries=4, further=[keep])
    seen = keep.output
    assert isinstance(seen, ObservedOutput)
    assert keep.inference == [True]
    assert seen.pairs[0].own_negatives is output.pairs[0].own_negatives, "after the transforms"
    assert seen.labels is LABELS
    assert seen.raw is raw
    assert not seen.loss.requires_grad
    torch.testing.assert_close(seen.positive[0], (pairs.query * pairs.positive).sum(-1))
    (sampled,), (sums,) = seen.sampled, seen.negatives
    assert len(sampled.index) == len(sums.negatives) == 4
    counts = sum(block.weight.sum(dim=1) for _, block in keep.blocks)
    assert counts.tolist() == sums.negatives.tolist()
    assert {block.kind for _, block in keep.blocks} == {"shared", "pair_mix", "query_mix"}, "no placeholders"
    assert all(pairs is sampled for pairs, _ in keep.blocks)


def test_further_observers_change_no_number_of_the_row() -> None:
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    output = loss(in_batch(0, 6))
    alone, beside = (observe(loss, output, LABELS, further=some) for some in ([], [Keep({"x": 1.0})]))
    assert alone.row() == beside.row()
    assert alone.scalars() == beside.scalars()


def test_every_key_of_the_runs_own_rows_is_reserved() -> None:
    mining = BadPairMining(samples=100, warmup_epochs=1)
    mixing = HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)
    torch.manual_seed(0)
    for loss in (
        ContrastiveLoss(InfoNCE(), 0.2, [mixing], mining).double(),
        ContrastiveLoss(InfoNCE(), AdaptiveTemperature(6, 4)).double(),
    ):
        seen = observe(
            loss, loss(against_queue(1, 6, 14)), LABELS, RawRows(rows(0, 6, 4), rows(1, 6, 4), torch.arange(6))
        )
        row = seen.row()
        assert set(row) <= set(RESERVED)
        assert {name.partition("/")[0] for name in seen.scalars(row)} <= set(RESERVED)


class Scheduled(Temperature):
    """A stranger's temperature, the same for all pairs."""

    def forward(self, scores: Any, query: Any, other: Any) -> Any:
        return scores / 0.3

    def of_score(self, score: Any) -> Any:
        return score / 0.3


class ByNorm(Scheduled):
    """A stranger's temperature that differs from pair to pair, and tells it."""

    by_pair = True

    def of_pairs(self, query: Any, other: Any) -> Any:
        return 0.3 + 0 * (query * other).sum(-1)


def test_a_strangers_temperature_is_observed_by_what_it_tells() -> None:
    loss = ContrastiveLoss(InfoNCE(), ByNorm())
    (head,) = observe(loss, loss(in_batch(0, 4))).row()["temperature"]["heads"]
    assert head["positive"]["mean"] == pytest.approx(0.3)
    other = ContrastiveLoss(InfoNCE(), Scheduled())
    assert "temperature" not in observe(other, other(in_batch(0, 4))).row()


HISTOGRAM = {"counts": [1, 2], "edges": [0.0, 0.5, 1.0]}
WRONG: dict[str, tuple[Any, str]] = {
    "not a dict": ([1.0], r"returned a list"),
    "nothing": (None, r"returned None: return a dict"),
    "nan": ({"a": {"b": float("nan")}}, r"a\.b is nan, not a finite number: leave the key out"),
    "infinity": ({"a": [1.0, float("-inf")]}, r"a\[1\] is -inf"),
    "none": ({"a": None}, r"a is None: leave the key out"),
    "text": ({"a": "high"}, r"a is a str, 'high': give a number"),
    "boolean": ({"a": True}, r"a is a bool"),
    "tensor": ({"a": torch.tensor(1.0)}, r"a is a Tensor"),
    "numpy integer": ({"a": np.int64(1)}, r"a is a int64"),
    "huge": ({"a": 10**400}, r"a is 1000"),
    "key": ({"a": {1: 2.0}}, r"a has the key 1: give a text"),
    "slash": ({"a/b": 2.0}, r"the row has the key 'a/b'"),
    "no edges": ({"a": {"counts": [1, 2]}}, r"a has 2 counts and no edges: give the 3 ends"),
    "few edges": ({"a": HISTOGRAM | {"edges": [0, 1]}}, r"a has 2 counts and 2 edges"),
    "falling edges": ({"a": HISTOGRAM | {"edges": [0, 2, 1]}}, r"a\.edges do not increase"),
    "negative counts": ({"a": HISTOGRAM | {"counts": [1, -2]}}, r"a\.counts is not a list of counts"),
    "many": ({"a": [0.0] * 20_001}, r"has 20,001 numbers: return at most 20,000"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_is_not_plain_is_refused_in_one_line(name: str) -> None:
    row, said = WRONG[name]
    with pytest.raises(InputError, match=said) as raised:
        plain_row(Keep(), row)
    assert str(raised.value).startswith("tests.observation.test_observers.Keep.row()")
    assert "\n" not in str(raised.value)


def test_a_row_that_contains_itself_is_refused() -> None:
    row: dict[str, Any] = {}
    row["a"] = row
    with pytest.raises(InputError, match="levels deep"):
        plain_row(Keep(), row)


def test_a_plain_row_is_kept_as_it_is() -> None:
    row = {"mean": 0.5, "kinds": {"shared": 3, "mined": np.float64(0.25)}, "list": (1, 2.5), "scores": HISTOGRAM}
    assert plain_row(Keep(), row) == {**row, "list": [1, 2.5]}


class Named(Keep):
    def __init__(self, name: Any) -> None:
        super().__init__()
        self.name = name


@pytest.mark.parametrize(
    ("observers", "said"),
    [
        ([Named("gradient")], r"Named has the name 'gradient', which the run's own records use"),
        ([Named("train")], r"the run's own records use"),
        ([Named("two words")], r"give letters, digits and _ only"),
        ([Keep(), Keep()], r"Keep and tests\S+Keep both have the name 'keep'"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(observers: list[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_observers(observers)


class Failing(Keep):
    """Fails in one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def _fail(self, method: str) -> None:
        if method == self.method:
            raise KeyError("margin\nof two lines")

    def add_negatives(self, pairs: Any, block: Any) -> None:
        self._fail("add_negatives")

    def add(self, loss: Any, output: Any) -> None:
        self._fail("add")

    def row(self) -> dict[str, Any]:
        self._fail("row")
        return {"x": 1.0}

    def scalars(self, row: Any) -> dict[str, float]:
        self._fail("scalars")
        return super().scalars(row)

    def __deepcopy__(self, memo: Any) -> Failing:
        self._fail("__deepcopy__")
        return Failing(self.method)


@pytest.mark.parametrize("method", ["add_negatives", "add", "row", "scalars", "__deepcopy__"])
def test_a_failure_is_kept_and_names_the_class(method: str) -> None:
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    listed = ListedObserver(Failing(method))
    seen = observe(loss, loss(in_batch(0, 4)), further=[listed])
    row, scalars = listed.row(), listed.scalars({})
    assert row == ({"x": 1.0} if method == "scalars" else {})
    assert scalars == {}
    assert "negative" in seen.row(), "the run's own row is there"
    assert listed.failure.startswith(f"tests.observation.test_observers.Failing.{method} raised KeyError: ")
    assert listed.failure.endswith("of its file: correct the class")
    assert "\n" not in listed.failure


def test_a_copy_is_made_for_each_step() -> None:
    loss, keep = ContrastiveLoss(InfoNCE(), 0.2), Keep()
    for seed in range(2):
        listed = ListedObserver(keep)
        observe(loss, loss(in_batch(seed, 4)), further=[listed])
        assert len(listed._observer.inference) == 1
    assert keep.inference == []


def test_scalars_have_the_observers_name_before_theirs() -> None:
    keep = Keep({"mean": 0.5, "kinds": {"shared": 3}, "list": [1.0], "scores": {**HISTOGRAM, "std": 0.1}})
    listed = ListedObserver(keep)
    assert listed.scalars(listed.row()) == {"keep/mean": 0.5, "keep/kinds/shared": 3, "keep/scores/std": 0.1}


def test_a_histogram_tells_its_edges() -> None:
    sums = Histogram(torch.device("cpu"), bins=4, low=0.0, high=2.0)
    assert sums.recorded() == {}
    sums.add(torch.tensor([[0.1, 0.6, 1.9]]))
    row = sums.recorded()
    assert row["edges"] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert row["counts"] == [1, 1, 0, 1]
    assert plain_row(Keep(), row) == row


def test_queries_without_negatives_are_observed() -> None:
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    pairs = against_queue(0, 4, 0)
    keep = Keep()
    observe(loss, loss(pairs), further=[keep])
    assert keep.blocks == []
    assert keep.output.negatives[0].negatives.tolist() == [0.0] * 4
