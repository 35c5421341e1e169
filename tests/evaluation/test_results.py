"""Result files: complete, strict JSON, and never silently replaced by another evaluation."""

from __future__ import annotations

import dataclasses
import json

import pytest

from contrast.evaluation import Interval, Result, write_json, write_result

RESULT = Result(
    command="probe",
    label="fraction-0.1",
    fingerprint="abc",
    encoder={"checkpoint": "last.ckpt"},
    per_seed=[{"seed": 0, "top1": 0.9}],
    chosen=[{"seed": 0, "l2": 0.1}],
    interval=Interval(0.9, 0.85, 0.93),
    protocol={"fraction": 0.1, "seeds": [0], "metric": "top-1 accuracy"},
    made_with={"device": "cpu"},
)


def test_a_result_says_what_it_is_of(tmp_path):
    path = write_result(tmp_path / "evaluations", RESULT)
    content = json.loads(path.read_text())
    assert content["top1"] == 0.9
    assert content["top1_interval"] == [0.85, 0.93]
    assert content["checkpoint"] == "last.ckpt"
    assert content["fingerprint"] == "abc"
    assert content["chosen"] == RESULT.chosen
    assert content["made_with"] == {"device": "cpu"}
    assert content["per_seed"] == RESULT.per_seed
    assert content["protocol"] == RESULT.protocol
    assert content["created"]
    assert path.name.startswith("probe-fraction-0.1-")
    assert list(path.parent.iterdir()) == [path]  # no staging file is left


def test_the_same_evaluation_replaces_its_own(tmp_path):
    write_result(tmp_path, RESULT)
    moved = {"encoder": {"checkpoint": "moved.ckpt"}, "made_with": {"device": "cuda"}}
    path = write_result(tmp_path, dataclasses.replace(RESULT, interval=Interval(0.8, 0.7, 0.9), **moved))
    assert json.loads(path.read_text())["top1"] == 0.8
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"command": "knn"},
        {"label": "fraction-1"},
        {"fingerprint": "abd"},
        {"protocol": {"fraction": 0.1, "seeds": [0, 1], "metric": "top-1 accuracy"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_evaluation_is_another_file(tmp_path, change):
    write_result(tmp_path, RESULT)
    write_result(tmp_path, dataclasses.replace(RESULT, **change))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_no_json_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "card.json", {"top1": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"top1": float("nan")})
    assert json.loads(path.read_text()) == {"top1": 0.5}
