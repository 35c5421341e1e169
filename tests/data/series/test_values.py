"""Numbers as series: what is taken, what is refused, and values between steps against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrast.data.series.files import at_positions, resample, to_series
from contrast.errors import InputError


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "float64"])
def test_numbers_of_any_type_become_float32(dtype: str):
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype=dtype)
    for given_values in (values, torch.from_numpy(values.copy())):
        series = to_series(given_values)
        assert series.dtype == torch.float32
        assert series.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert to_series(values[0]).shape == (1, 3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, 2.0], "type list"),
        (np.array(["a"]), "type <U1"),
        (np.array([True]), "type bool"),
        (np.array([1j]), "type complex128"),
        (np.zeros((2, 3, 4)), "shape (2, 3, 4)"),
        (np.array(3.0), "shape ()"),
        (np.zeros((2, 0)), "shape (2, 0)"),
        (np.array([[0.0, 1.0], [2.0, np.nan]]), "channel 1 is nan at step 1"),
        (np.array([[0.0, -np.inf]]), "channel 0 is -inf at step 1"),
        (np.array([[1e300]]), "channel 0 is inf at step 0"),
    ],
)
def test_other_things_are_refused(values: object, words: str):
    with pytest.raises(InputError) as refused:
        to_series(values)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def by_hand(series: list[float], position: float) -> float:
    before = min(math.floor(position), len(series) - 1)
    after = min(before + 1, len(series) - 1)
    return series[before] + (position - before) * (series[after] - series[before])


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 99))
def test_resampling_against_a_loop(steps: int, wanted: int, seed: int):
    series = torch.randn(3, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = resample(series, wanted)
    for channel in range(3):
        for place in range(wanted):
            position = 0.0 if wanted == 1 else place * (steps - 1) / (wanted - 1)
            assert float(found[channel, place]) == pytest.approx(by_hand(series[channel].tolist(), position), abs=1e-12)


def test_resampling_keeps_ends_and_what_has_the_length():
    series = torch.randn(2, 7)
    assert torch.equal(resample(series, 7), series)
    longer = resample(series, 30)
    assert torch.equal(longer[:, [0, -1]], series[:, [0, -1]])


def test_each_series_has_positions_of_its_own():
    series = torch.randn(4, 2, 6, dtype=torch.float64)
    positions = torch.rand(4, 5, dtype=torch.float64) * 5
    found = at_positions(series, positions)
    for row in range(4):
        for column in range(5):
            for channel in range(2):
                expected = by_hand(series[row, channel].tolist(), float(positions[row, column]))
                assert float(found[row, channel, column]) == pytest.approx(expected, abs=1e-12)
