"""The benchmark of searches, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import search
from benchmarks.search import _recall, embeddings, main


def test_recall_is_the_share_of_true_neighbours_found() -> None:
    truth = torch.tensor([[3, 1, 2], [5, 6, 7]])
    assert _recall(torch.tensor([[2, 3, 1], [7, 6, 5]]), truth) == 1
    assert _recall(torch.tensor([[2, 9, 1], [-1, -1, 5]]), truth) == pytest.approx(3 / 6)


def test_rows_are_of_unit_length_and_known_by_their_seed() -> None:
    one, again, other = (embeddings(50, seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(50))


def test_exact_ways_find_all_and_a_table_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "_measured_peak", lambda *arguments: 1.0)  # processes of their own
    threads = str(torch.get_num_threads())
    words = ["--keys", "300", "--counts", "5", "--rounds", "1", "--threads", threads]
    assert main([*words, "--out", str(tmp_path / "search.json")]) == 0
    rows = json.loads((tmp_path / "search.json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["faiss", "torch", "torch, 64 MiB"]
    assert all(row["recall"] == 1 for row in rows)
    assert "| 300 | 5 | faiss |" in capsys.readouterr().out
