"""Intervals against textbook numbers, and their coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contrast.errors import InputError
from contrast.evaluation import accuracy_interval, mean_interval, paired_difference, wilson_interval


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95]))
def test_mean_interval_is_students(values, confidence):
    interval = mean_interval(values, confidence)
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    np.testing.assert_allclose(
        [interval.mean, interval.low, interval.high],
        [np.mean(values), np.mean(values) - half, np.mean(values) + half],
        atol=1e-9,
    )


def test_mean_interval_covers_the_mean_in_95_of_100():
    draws = np.random.default_rng(0).normal(0.9, 0.01, size=(3000, 4))
    intervals = [mean_interval(row) for row in draws.tolist()]
    covered = np.mean([interval.low <= 0.9 <= interval.high for interval in intervals])
    assert abs(covered - 0.95) < 0.013  # three standard errors


@pytest.mark.parametrize(("share", "items"), [(0.5, 60), (0.93, 200), (0.97, 360)])
def test_wilson_covers_the_share_in_about_95_of_100(share, items):
    hits = np.random.default_rng(1).binomial(items, share, size=4000)
    intervals = [wilson_interval(count / items, items) for count in hits.tolist()]
    covered = np.mean([interval.low <= share <= interval.high for interval in intervals])
    assert 0.93 < covered < 0.975


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 500), st.data())
def test_wilson_is_scipys(items, data):
    hits = data.draw(st.integers(0, items))
    interval = wilson_interval(hits / items, items)
    expected = stats.binomtest(hits, items).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose([interval.low, interval.high], [expected.low, expected.high], atol=1e-9)


def test_pairs_cancel_what_seeds_share():
    first = [0.80, 0.90, 0.85, 0.95]
    interval = paired_difference([value + 0.01 for value in first], first)
    assert interval.mean == pytest.approx(0.01)
    assert interval.high - interval.low < 1e-9
    unpaired = mean_interval(first)
    assert unpaired.high - unpaired.low > 0.1


def test_paired_difference_keeps_its_sign():
    interval = paired_difference([0.5, 0.6, 0.7], [0.7, 0.8, 0.91])
    assert interval.low < interval.mean < 0


def test_what_is_no_sample_is_refused():
    with pytest.raises(InputError, match="at least two"):
        mean_interval([0.9])
    with pytest.raises(InputError, match="2 and 3 values cannot be paired"):
        paired_difference([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match=r"accuracy 1\.2 on 10 items"):
        wilson_interval(1.2, 10)
    with pytest.raises(InputError, match="on 0 items"):
        wilson_interval(0.5, 0)


def test_one_experiment_has_an_interval_over_test_samples_and_says_so():
    interval, words = accuracy_interval([0.9], 100, seeds_differ=True)
    assert interval == wilson_interval(0.9, 100)
    assert "Wilson" in words
    assert "one seed" in words
    interval, words = accuracy_interval([0.9, 0.9, 0.9], 100, seeds_differ=False)
    assert interval.high - interval.low > 0.05  # three equal runs are no certainty
    assert "Wilson" in words
    interval, words = accuracy_interval([0.9, 0.92, 0.91], 100, seeds_differ=True)
    assert interval == mean_interval([0.9, 0.92, 0.91])
    assert "3 seeds" in words
    interval, _ = accuracy_interval([0.5, 0.99], 100, seeds_differ=True)
    assert (interval.low, interval.high) == (0.0, 1.0)  # no accuracy lies beyond
