"""Functions minimised side by side: each ends where it does alone, and none is evaluated after its end."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast.evaluation import fit_linear
from contrast.evaluation.probe import GRID, fit_grid, minimise_each


def quadratics(scales: Tensor, centres: Tensor, asked: list[list[int]]):
    """½ Σ a (x − c)², one a row."""

    def evaluate(position: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(rows.tolist())
        away = position - centres[rows]
        return 0.5 * (scales[rows] * away.square()).sum(1), scales[rows] * away

    return evaluate


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 10**6))
def test_each_comes_to_its_own_minimum(count: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scales = 10 ** (4 * torch.rand(count, width, generator=generator, dtype=torch.float64) - 2)
    centres = torch.randn(count, width, generator=generator, dtype=torch.float64)
    found, slopes = minimise_each(
        quadratics(scales, centres, []), torch.zeros_like(centres), torch.ones_like(centres), 1e-9
    )
    assert slopes.max() <= 1e-9
    torch.testing.assert_close(found, centres, rtol=0, atol=1e-6)


def test_with_the_true_curvature_one_step_is_enough() -> None:
    asked: list[list[int]] = []
    scales = torch.tensor([[1e-4, 1.0, 1e4]], dtype=torch.float64)
    evaluate = quadratics(scales, torch.ones_like(scales), asked)
    found, _ = minimise_each(evaluate, torch.zeros_like(scales), scales, 1e-9)
    torch.testing.assert_close(found, torch.ones_like(scales))
    assert len(asked) == 2


def test_what_has_ended_is_evaluated_no_more() -> None:
    asked: list[list[int]] = []
    scales = torch.tensor([[1.0, 1.0], [1.0, 300.0], [1.0, 1.0]], dtype=torch.float64)
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    minimise_each(quadratics(scales, centres, asked), torch.zeros_like(centres), torch.ones_like(centres), 1e-9)
    assert asked[0] == [0, 1, 2]
    assert asked[1] == [1, 2]  # the first began at its end
    assert asked[-1] == [1]
    assert all(set(later) <= set(before) for before, later in itertools.pairwise(asked))


def test_a_first_step_that_is_too_long_is_shortened() -> None:
    scales = torch.full((1, 2), 1e6, dtype=torch.float64)
    found, slopes = minimise_each(
        quadratics(scales, torch.ones_like(scales), []), torch.zeros_like(scales), torch.full_like(scales, 1e-3), 1e-6
    )
    assert slopes.max() <= 1e-6
    torch.testing.assert_close(found, torch.ones_like(scales))


def test_where_nothing_leads_down_it_stops() -> None:
    def walled(position: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(position[:, 0] == 1, 0.0, float("nan")), torch.ones_like(position)

    found, slopes = minimise_each(walled, torch.ones(1, 1), torch.ones(1, 1), 1e-5)
    assert found.tolist() == [[1.0]]
    assert slopes.tolist() == [1.0]


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
def test_a_grid_is_each_strength_alone(precision: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 4
    mixing = torch.randn(12, 12, generator=generator) * torch.logspace(0, -2, 12)
    features = (
        torch.randn(4, 12, generator=generator)[labels] + 2 * torch.randn(300, 12, generator=generator)
    ) @ mixing
    features = features.to(precision)
    tolerance = 1e-9 if precision == torch.float64 else 1e-5
    for strength, together in zip(GRID, fit_grid(features, labels, 4, GRID, tolerance=tolerance), strict=True):
        alone = fit_linear(features, labels, 4, strength, tolerance=tolerance)
        assert together.strength == alone.strength == strength
        close = 1e-5 if precision == torch.float64 else 0.05 * float(alone.weight.abs().max())
        torch.testing.assert_close(together.weight, alone.weight, rtol=0, atol=close)
        torch.testing.assert_close(together.bias, alone.bias, rtol=0, atol=close)
