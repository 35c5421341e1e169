"""Several runs on one page: what is compared has one scale, and differences are what arithmetic says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contrast.report import read_runs
from contrast.report.charts import Figure
from contrast.report.figures.differences import differences
from contrast.report.figures.gradients import coupling
from contrast.report.figures.negatives import hardness_profile
from contrast.report.figures.scores import score_densities
from contrast.run_folder import RunFolder
from tests.report.reading import every
from tests.report.synthetic import write_rows

HEADER = {"format": 2, "edges": [-1, 0, 1], "rank_ends": [1, 2], "coupling_edges": [0, 0.5, 1]}


def row(step: int, counts: list[int], shares: list[float], positive: float = 0.0) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": 0,
        "positive": {"counts": [1, 3], "mean": positive, "std": 0.1},
        "negative": {"counts": [4, 4], "mean": 0.0, "std": 0.1},
        "coupling": {"counts": counts, "mean": 0.9, "quantiles": [0.1] * 7},
        "hardness": {"score": [0.5, 0.4, 0.1], "gradient": shares},
    }


def figure(draw: Any, tmp_path: Path, **runs: list[dict[str, Any]]) -> Figure:
    for name, rows in runs.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "config.yaml").write_text("seed_everything: 0\n")
        write_rows(tmp_path / name / "scores.jsonl", [HEADER, *rows])
    found = draw(read_runs([RunFolder(tmp_path / name) for name in runs]))
    assert isinstance(found, Figure)
    return found


def domains(found: Figure, channel: str, chart: str) -> list[Any]:
    """Of the charts whose names begin so, each one's end points on an axis or of the colours."""
    charts = [each.spec for each in found.charts if each.name.startswith(chart)]
    encodings = [dict(every(spec))["encoding"] for spec in charts]
    return [encoding[channel]["scale"].get("domain") for encoding in encodings]


SHORT = [row(1, [0, 4], [0.2, 0.3, 0.5]), row(11, [0, 4], [0.1, 0.1, 0.8])]
LONG = [row(5, [2, 2], [0.4, 0.3, 0.3]), row(105, [1, 3], [0.6, 0.2, 0.2])]


@pytest.mark.parametrize("runs", [{"short": SHORT, "long": LONG}, {"long": LONG, "short": SHORT}])
def test_maps_of_several_runs_have_one_scale(runs: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    found = figure(coupling, tmp_path, **runs)
    assert domains(found, "x", "coupling-map") == [[1.0, 105.0]] * 2
    assert domains(found, "y", "coupling-map") == [[0.0, 1.0]] * 2
    assert domains(found, "color", "coupling-map") == [[0, 2.0]] * 2, "4 of 4 queries in a bin half a unit wide"
    found = figure(hardness_profile, tmp_path, **runs)
    assert domains(found, "x", "hardness-map") == [[1.0, 105.0]] * 2
    assert domains(found, "color", "hardness-map") == [[0, pytest.approx(0.6)]] * 2, "on the one negative of rank 1"


def test_a_difference_is_taken_between_rows_by_a_straight_line(tmp_path: Path) -> None:
    def course(*points: tuple[int, float]) -> list[dict[str, Any]]:
        return [row(step, [1, 1], [1.0, 0.0, 0.0], positive) for step, positive in points]

    first = course((10, 0.0), (20, 1.0), (40, 0.0))
    other = course((5, 0.9), (15, 0.9), (20, 0.9), (25, 0.9), (40, 0.9), (45, 0.9))
    found = figure(differences, tmp_path, first=first, other=other)
    table = found.tables["positive"]
    assert table["step"] == [15, 20, 25, 40], "only where both have rows"
    # halfway up to 1, at 1, a quarter of the way down from 1, at 0
    assert table["value"] == pytest.approx([0.9 - 0.5, 0.9 - 1.0, 0.9 - 0.75, 0.9 - 0.0], abs=1e-6)


def test_histograms_that_are_another_one_throughout_are_left_out(tmp_path: Path) -> None:
    def with_some(step: int, **counts: list[int]) -> dict[str, Any]:
        some = {name: {"counts": each, "mean": 0.2, "std": 0.1} for name, each in counts.items()}
        return row(step, [1, 1], [1.0, 0.0, 0.0]) | some

    early, late = {"hardest": [0, 2], "pair_mix": [1, 1]}, {"hardest": [1, 2], "pair_mix": [2, 2]}
    rows = [with_some(1, **early, own=[1, 1], synthetic=[1, 1]), with_some(9, **late, own=[2, 2], synthetic=[1, 2])]
    found = figure(score_densities, tmp_path, mixed=rows)
    (shown,) = found.extra["runs"]
    assert shown["some"] == ["hardest", "pair_mix", "synthetic"], "its own are mixes of pairs in every row"
    assert shown["hardest"]["counts"] == [[0, 2], [1, 2]]
    assert shown["synthetic"] == {"counts": [[1, 1], [1, 2]], "mean": [0.2, 0.2], "std": [0.1, 0.1]}
