"""Weighted kNN against golden numbers and against a loop that reads like the equation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from contrast.errors import InputError
from contrast.evaluation import knn_top1, weighted_knn_scores

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "knn_weighted.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_golden(case):
    with np.load(GOLDEN / "knn_weighted.npz", allow_pickle=False) as file:
        arrays = {
            name: torch.from_numpy(file[f"{case['id']}/{name}"])
            for name in ("feature", "bank_rows", "labels", "scores", "pred_labels")
        }
    params = case["params"]
    scores = weighted_knn_scores(
        arrays["feature"], arrays["bank_rows"], arrays["labels"], params["C"], params["k"], params["t"]
    )
    torch.testing.assert_close(scores, arrays["scores"], rtol=1e-9, atol=0)
    # Among classes without a neighbour the order is arbitrary, so only the best is compared.
    assert scores.argmax(dim=1).tolist() == arrays["pred_labels"][:, 0].tolist()


def _scores_by_loop(query, keys, labels, classes, k, t):
    """score_c = Σ_{j in the k nearest} exp(cos(q, x_j) / t) [y_j = c]"""
    rows = []
    for q in query.tolist():
        cosines = []
        for j, x in enumerate(keys.tolist()):
            lengths = math.hypot(*q) * math.hypot(*x)
            cosines.append((sum(a * b for a, b in zip(q, x, strict=True)) / lengths, j))
        row = [0.0] * classes
        for s, j in sorted(cosines, reverse=True)[:k]:
            row[int(labels[j])] += math.exp(s / t)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("k", "t"), [(1, 0.1), (6, 0.07), (25, 1.0)])
def test_loop(dtype, rtol, k, t):
    generator = torch.Generator().manual_seed(k)
    query = 3 * torch.randn(5, 4, generator=generator, dtype=dtype)
    keys = 0.2 * torch.randn(25, 4, generator=generator, dtype=dtype)
    labels = torch.randint(0, 3, (25,), generator=generator)
    expected = _scores_by_loop(query, keys, labels, 3, k, t)
    torch.testing.assert_close(weighted_knn_scores(query, keys, labels, 3, k, t), expected, rtol=rtol, atol=0)
    top1 = knn_top1(query, torch.tensor([0, 1, 2, 0, 1]), keys, labels, 3, k, t)
    assert top1 == (expected.argmax(dim=1) == torch.tensor([0, 1, 2, 0, 1])).double().mean()


def test_small_temperatures_stay_finite():
    query, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    scores = weighted_knn_scores(query, keys, torch.tensor([0, 1]), 2, 2, 0.005)  # float32 would overflow
    assert torch.isfinite(scores).all()
    assert scores.argmax() == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neighbours": 9}, "9 neighbours of 8 training samples: ask for 1 to 8"),
        ({"neighbours": 0}, "0 neighbours of 8"),
        ({"temperature": 0.0}, "temperature of 0.0"),
        ({"temperature": float("nan")}, "temperature of nan"),
        ({"classes": 2}, "not among 2 classes"),
    ],
)
def test_what_cannot_be_is_refused(changed, message):
    arguments = {"classes": 4, "neighbours": 3, "temperature": 0.1} | changed
    with pytest.raises(InputError, match=message):
        weighted_knn_scores(torch.ones(2, 3), torch.ones(8, 3), torch.arange(8) % 4, **arguments)
