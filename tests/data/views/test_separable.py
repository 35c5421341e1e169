"""Products with a matrix for the rows and one for the columns."""

from __future__ import annotations

import torch

from contrast.data.views.blur import separable


def test_two_matrices_act_on_rows_and_columns():
    rows, images, columns = torch.rand(2, 4, 6), torch.rand(2, 3, 6, 5), torch.rand(2, 7, 5)
    expected = torch.stack([rows[i] @ images[i, c] @ columns[i].T for i in range(2) for c in range(3)])
    torch.testing.assert_close(separable(rows, images, columns), expected.unflatten(0, (2, 3)))
