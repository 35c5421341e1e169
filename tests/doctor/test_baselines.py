"""The rule on baselines: what it says of evaluations, of files of earlier versions, and of the kNN while training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.doctor import best_reference, examine, references
from contrast.records import append_row
from contrast.run_folder import RunFolder


def evaluation(
    top1: float = 0.56, command: str = "knn", created: str = "2026-01-01", **differences: Any
) -> dict[str, Any]:
    """An evaluation's JSON; a difference is (mean, low, high)."""
    baselines = {
        name: {
            "name": name.replace("_", " "),
            "top1": top1 - difference[0],
            "difference": difference[0],
            "difference_interval": list(difference[1:]),
        }
        for name, difference in differences.items()
    }
    return {"command": command, "created": created, "top1": top1, "baselines": baselines}


def write(folder: Path, *contents: dict[str, Any]) -> RunFolder:
    (folder / "evaluations").mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {}\n")
    for place, content in enumerate(contents):
        (folder / "evaluations" / f"{place}.json").write_text(json.dumps(content))
    return RunFolder(folder)


def said(run: RunFolder) -> list[tuple[str, str]]:
    return [(finding.rule, finding.severity) for finding in examine(run).findings]


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ({"raw_input": (-0.076, -0.09, -0.06)}, [("below-raw-input", "problem")]),
        ({"raw_input": (-0.01, -0.03, 0.01)}, [("below-raw-input", "warning")]),
        ({"raw_input": (0.01, -0.01, 0.03)}, []),
        ({"raw_input": (0.0, -0.01, 0.01)}, []),
        ({"random_weights": (-0.05, -0.06, -0.04)}, [("below-random-weights", "problem")]),
        ({"majority_class": (0.0, -0.01, 0.01)}, [("below-majority-class", "warning")]),
        ({"majority_class": (-0.3, -0.4, -0.2)}, [("below-majority-class", "problem")]),
        ({"raw_input": (-0.01, -0.02, -0.005), "majority_class": (-0.3, -0.4, -0.2)}, [("below-raw-input", "problem")]),
        ({"raw_input": (0.1, 0.08, 0.12), "random_weights": (0.2, 0.1, 0.3), "majority_class": (0.5, 0.4, 0.6)}, []),
        ({}, []),
    ],
)
def test_what_is_below_a_baseline_is_named(differences: Any, expected: Any, tmp_path: Path) -> None:
    assert said(write(tmp_path, evaluation(**differences))) == expected


def test_the_sentence_has_all_numbers(tmp_path: Path) -> None:
    run = write(tmp_path, evaluation(raw_input=(-0.076, -0.09, -0.06), random_weights=(-0.01, -0.02, 0.01)))
    (finding,) = examine(run).findings
    assert finding.seen == (
        "kNN is at 56.0 %, and raw input at 63.6 %: −7.6 [−9.0, −6.0] points; random weights: 57.0 %, −1.0 "
        "[−2.0, +1.0] points."
    )


def test_the_newest_of_each_command_counts(tmp_path: Path) -> None:
    old, new = evaluation(raw_input=(-0.1, -0.2, -0.05)), evaluation(created="2026-02-01", raw_input=(0.1, 0.05, 0.2))
    probe = evaluation(0.7, "probe", raw_input=(-0.02, -0.03, -0.01))
    assert said(write(tmp_path / "a", new, old)) == []
    assert said(write(tmp_path / "b", new, old, probe)) == [("below-raw-input", "problem")]


@pytest.mark.parametrize(("raw", "ours", "speaks"), [(0.636, 0.56, True), (0.57, 0.56, False), (0.5, 0.56, False)])
def test_without_an_evaluation_the_knn_while_training_counts(
    raw: float, ours: float, speaks: bool, tmp_path: Path
) -> None:
    run = write(tmp_path)
    append_row(run.metrics, {"step": 0, "epoch": 0, "online/knn_top1": 0.4, "online/raw_input_knn_top1": raw})
    append_row(run.metrics, {"step": 10, "epoch": 1, "online/knn_top1": ours})
    assert said(run) == ([("below-raw-input", "warning")] if speaks else [])
    assert examine(run, progress=0.3).findings == ()


def test_a_file_of_an_earlier_version_has_no_references(tmp_path: Path) -> None:
    old = {"command": "knn", "created": "2026-01-01", "top1": 0.1, "protocol": {"neighbours": 20}}
    assert references(old) == []
    assert best_reference([]) is None
    assert said(write(tmp_path, old)) == []


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["name", "top1", "difference", "difference_interval", "protocol"])


@settings(max_examples=300, deadline=None)
@given(
    baselines=ANY
    | st.dictionaries(
        st.sampled_from(["raw_input", "random_weights", "majority_class", "other"]),
        ANY | st.dictionaries(KEYS, ANY | st.lists(st.floats(-2, 2), min_size=2, max_size=2), max_size=5),
        max_size=4,
    )
)
def test_baselines_of_any_shape_raise_nothing(baselines: Any) -> None:
    for reference in references({"baselines": baselines}):
        assert isinstance(reference.points, str)
        assert isinstance(reference.beaten, bool)
