"""Histograms and means of numbers at the edges of what they can hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.observation.sums import Average, Histogram, PerColumn, array
from tests.reference.observation import histogram

small = settings(deadline=None, max_examples=30)


@small
@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.sampled_from([(100, -1.0, 1.0), (50, 0.0, 1.0), (10, -2.0, 2.0)]),
    st.sampled_from(["pairs", "queries"]),
)
def test_a_histogram_is_what_a_loop_counts(seed: int, count: int, axis: tuple[int, float, float], of: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = 3 * torch.rand(count, 7, dtype=torch.float64, generator=generator) - 1.5
    counted = torch.rand(count, 7, generator=generator) < 0.7
    sums = Histogram(torch.device("cpu"), *axis)
    for start in range(0, count, 3):
        part, weight = values[start : start + 3], counted[start : start + 3]
        if of == "pairs":
            sums.add(part, weight.double())
        else:
            sums.add_queries(array(part.flatten()), weight.flatten().numpy())
    row = sums.row()
    if not counted.any():
        assert sum(row["counts"]) == 0
        assert math.isnan(row["mean"])
        return
    expected = histogram(values[counted].tolist(), *axis)
    assert row["counts"] == expected["counts"]
    for name in ("mean", "std", "quantiles"):
        assert row[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-9)


def test_the_spread_of_numbers_that_are_nearly_equal_is_not_lost() -> None:
    values = 0.9 + 1e-5 * torch.linspace(-1, 1, 4096).view(4, 1024)
    sums = Histogram(torch.device("cpu"))
    sums.add(values)
    assert sums.row()["std"] == pytest.approx(values.double().std(correction=0).item(), rel=1e-2)


def test_means_by_column_end_where_nothing_was_added() -> None:
    sums = PerColumn(torch.device("cpu"), 4)
    sums.add(np.array([[1.0, 2.0, 0.0, 0.0]]), np.array([[2.0, 1.0, 0.0, 0.0]]))
    assert sums.values() == [0.5, 2.0]
    assert PerColumn(torch.device("cpu"), 2).values() == []
    assert math.isnan(Average(torch.device("cpu")).value())


@pytest.mark.parametrize("of", ["pairs", "queries"])
def test_scores_beyond_the_range_fall_in_the_end_bins(of: str) -> None:
    sums = Histogram(torch.device("cpu"))
    values = torch.tensor([-9.0, -1.0001, -1.0, -0.981, 0.0, 0.0199, 0.981, 0.9999, 1.0, 1.0000001, 7.5])
    if of == "pairs":
        sums.add(values[None])
    else:
        sums.add_queries(array(values))
    row = sums.row()
    assert {place: count for place, count in enumerate(row["counts"]) if count} == {0: 4, 50: 2, 99: 5}
    assert row["mean"] == pytest.approx((-9 - 1.0001 - 1 - 0.981 + 0.0199 + 0.981 + 0.9999 + 1 + 1.0000001 + 7.5) / 11)


def test_half_precision_and_large_counts_keep_their_sums() -> None:
    sums = Histogram(torch.device("cpu"))
    for _ in range(40):
        sums.add(torch.full((64, 1024), 0.3, dtype=torch.bfloat16))
    row = sums.row()
    assert sum(row["counts"]) == 40 * 64 * 1024
    assert row["mean"] == pytest.approx(torch.tensor(0.3, dtype=torch.bfloat16).item(), rel=1e-12)
    assert row["std"] == pytest.approx(0, abs=1e-6)
