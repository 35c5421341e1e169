"""A line of one recorded point is drawn as a point: a line mark of it would leave an empty axis."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from contrast.report.charts import Figure, Missing
from contrast.report.curves import has_lone_point
from contrast.report.figures.scores import score_separation
from contrast.report.figures.training import learning_rate, training_loss
from contrast.report.run_record import RunRecord
from contrast.run_folder import RunFolder
from tests.report.synthetic import Shape, write_run

Draw = Callable[[Sequence[RunRecord]], Figure | Missing]


@pytest.mark.parametrize("draw", [training_loss, learning_rate, score_separation])
@pytest.mark.parametrize(("kept", "marked"), [(1, True), (5, False)])
def test_a_line_of_one_point_has_a_mark(draw: Draw, kept: int, marked: bool, tmp_path: Path) -> None:
    folder = RunFolder(write_run(tmp_path / "run", Shape(snapshots=kept, epochs=2)))
    rows = [line for line in folder.metrics.read_text().splitlines() if "train/loss" in json.loads(line)]
    folder.metrics.write_text("\n".join(rows[:kept]) + "\n")
    figure = draw([RunRecord.read(folder, "run")])
    assert isinstance(figure, Figure)
    for chart in figure.charts:
        if chart.name in ("loss", "rate", "gap", "d-prime"):
            lines = [layer["mark"] for layer in chart.spec["layer"] if layer["mark"]["type"] == "line"]
            assert any(bool(mark.get("point")) for mark in lines) is marked


def test_missing_numbers_are_no_points() -> None:
    table = {"run": ["a", "a", "b", "b"], "value": [1.0, None, 1.0, 2.0]}
    assert has_lone_point(table, "value")
    assert not has_lone_point(table)
