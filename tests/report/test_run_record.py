"""Reading run folders that are cut, resumed or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contrast.report.run_record import RunRecord
from contrast.run_folder import RunFolder
from tests.report.synthetic import write_rows

EDGES = [-1.0, 0.0, 1.0]


def read(path: Path, **files: Any) -> RunRecord:
    (path / "config.yaml").write_text("seed_everything: 0\n")
    for name, rows in files.items():
        write_rows(path / f"{name}.jsonl", rows)
    return RunRecord.read(RunFolder(path), "run")


def score_row(step: int, counts: list[int], mean: float | None = 0.5) -> dict[str, Any]:
    side = {"counts": counts, "mean": mean, "std": 0.1}
    return {"step": step, "epoch": 0, "positive": side, "negative": side}


def test_a_resumed_run_keeps_the_later_value_of_each_key(tmp_path: Path) -> None:
    rows = [{"step": 5, "train/loss": 3.0, "train/rate": 0.1}, {"step": 9, "train/loss": 2.0}]
    rows += [{"step": 5, "train/loss": 2.5}, {"step": 5, "online/knn_top1": 0.9}]
    assert read(tmp_path, metrics=rows).metrics == [
        {"step": 5, "train/loss": 2.5, "train/rate": 0.1, "online/knn_top1": 0.9},
        {"step": 9, "train/loss": 2.0},
    ]


def test_the_later_histogram_of_a_step_wins(tmp_path: Path) -> None:
    rows = [{"format": 1, "edges": EDGES}, score_row(1, [1, 0]), score_row(2, [2, 0]), score_row(1, [0, 3])]
    record = read(tmp_path, scores=rows)
    assert [snapshot.positive and snapshot.positive.counts for snapshot in record.snapshots] == [[0, 3], [2, 0]]


def test_a_cut_tail_is_dropped(tmp_path: Path) -> None:
    read(tmp_path, scores=[{"format": 1, "edges": EDGES}, score_row(1, [1, 0])], metrics=[{"step": 1, "train/loss": 1}])
    for name in ("scores", "metrics"):
        with open(tmp_path / f"{name}.jsonl", "a") as file:
            file.write('{"step": 2, "positive": {"counts": [1')
    record = RunRecord.read(RunFolder(tmp_path), "run")
    assert [snapshot.step for snapshot in record.snapshots] == [1]
    assert [row["step"] for row in record.metrics] == [1]


@pytest.mark.parametrize("side", [None, [], {"counts": [1]}, {"counts": [0, 0]}, {"counts": [1, None]}, {"mean": 1.0}])
def test_a_damaged_side_is_no_histogram(tmp_path: Path, side: Any) -> None:
    row = score_row(1, [1, 1]) | {"negative": side}
    (snapshot,) = read(tmp_path, scores=[{"format": 1, "edges": EDGES}, row]).snapshots
    assert snapshot.negative is None
    assert snapshot.positive is not None


def test_histograms_without_edges_are_not_shown(tmp_path: Path) -> None:
    record = read(tmp_path, scores=[score_row(1, [1, 1])])
    assert record.snapshots == []
    assert any("scores.jsonl" in note for note in record.notes)


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "\x00"])
def test_an_unreadable_configuration_is_a_note(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    record = RunRecord.read(RunFolder(tmp_path), "run")
    assert record.config == {}
    assert any("config.yaml" in note for note in record.notes)


def test_evaluations_take_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations"
    folder.mkdir()
    whole = {"command": "knn", "top1": 0.9, "top1_interval": [0.8, 1], "protocol": {"k": 20}, "epoch": 3}
    (folder / "a.json").write_text(json.dumps(whole))
    (folder / "b.json").write_text('{"top1": NaN, "top1_interval": null}')
    (folder / "c.json").write_text('{"top1": 0.')
    record = read(tmp_path)
    first, second = record.evaluations
    assert (first.top1, first.interval, first.protocol, first.others) == (0.9, (0.8, 1.0), {"k": 20}, {"epoch": 3})
    assert (second.top1, second.interval, second.command) == (None, None, "")
    assert any("c.json" in note for note in record.notes)
