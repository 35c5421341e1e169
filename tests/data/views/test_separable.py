"""Products with a band matrix, strip by strip, equal those with the whole matrix."""

from __future__ import annotations

import pytest
import torch

from contrast.data.views.separable import banded, separable


def band(count: int, side: int, radius: int) -> torch.Tensor:
    places = torch.arange(side)
    return torch.rand(count, side, side) * ((places[:, None] - places).abs() <= radius)


@pytest.mark.parametrize(
    ("height", "width", "radius"), [(5, 7, 2), (32, 64, 3), (33, 31, 0), (100, 70, 11), (40, 96, 39)]
)
def test_strips_of_a_band_equal_the_whole_matrix(height, width, radius):
    images = torch.rand(3, 2, height, width)
    rows, columns = band(3, height, radius), band(3, width, radius)
    torch.testing.assert_close(banded(rows, images, columns, radius), separable(rows, images, columns))


def test_two_matrices_act_on_rows_and_columns():
    rows, images, columns = torch.rand(2, 4, 6), torch.rand(2, 3, 6, 5), torch.rand(2, 7, 5)
    expected = torch.stack([rows[i] @ images[i, c] @ columns[i].T for i in range(2) for c in range(3)])
    torch.testing.assert_close(separable(rows, images, columns), expected.unflatten(0, (2, 3)))
