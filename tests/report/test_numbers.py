"""Smoothing, thinning, separation and the run's key numbers against slow references."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.report.figures.scores import mean_gap, sensitivity_index
from contrast.report.numbers import running_mean, smoothing_window, thin
from contrast.report.overview import key_numbers
from contrast.report.run_record import RunRecord
from contrast.report.samples import ScoreSummary, Snapshot
from contrast.report.settings import differing_settings, run_facts
from contrast.run_folder import RunFolder
from tests.report.synthetic import write_rows

VALUES = st.lists(st.none() | st.floats(-9, 9), min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(VALUES, st.sampled_from([3, 5, 9]))
def test_running_mean_is_the_mean_of_the_neighbours(values: list[float | None], window: int) -> None:
    for place, found in enumerate(running_mean(values, window)):
        near = [each for at, each in enumerate(values) if abs(at - place) <= window // 2 and each is not None]
        assert found == (pytest.approx(statistics.fmean(near)) if near else None)


@settings(deadline=None, max_examples=60)
@given(VALUES, st.sampled_from([2, 8, 20]))
def test_thinning_keeps_ends_and_extremes(values: list[float | None], most: int) -> None:
    kept = thin(values, most)
    assert kept == sorted(set(kept))
    assert {0, len(values) - 1} <= set(kept)
    assert len(kept) <= max(most + 2, 1)
    finite = [value for value in values if value is not None]
    shown = [value for place in kept if (value := values[place]) is not None]
    if finite:
        assert (min(shown), max(shown)) == (min(finite), max(finite))


def test_the_window_is_odd_and_about_one_in_fifty() -> None:
    assert [smoothing_window(count) for count in (0, 100, 2000, 5000)] == [5, 5, 41, 101]


def test_separation_matches_its_equations() -> None:
    positive, negative = ScoreSummary([1], 0.8, 0.1), ScoreSummary([1], 0.2, 0.3)
    snapshot = Snapshot(1, 0, positive, negative)
    assert mean_gap(snapshot) == pytest.approx(0.6)
    assert sensitivity_index(snapshot) == pytest.approx(0.6 / math.sqrt((0.01 + 0.09) / 2))


@pytest.mark.parametrize("negative", [None, ScoreSummary([1], None, 0.1), ScoreSummary([1], 0.2, None)])
def test_separation_needs_both_sides(negative: ScoreSummary | None) -> None:
    assert sensitivity_index(Snapshot(1, 0, ScoreSummary([1], 0.8, 0.1), negative)) is None


def test_separation_without_spread_is_undefined() -> None:
    still = ScoreSummary([1], 0.8, 0.0)
    assert sensitivity_index(Snapshot(1, 0, still, still)) is None


def test_key_numbers_of_a_resumed_and_diverged_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer: {max_epochs: 8}\n")
    rows: list[dict[str, Any]] = [
        {"step": 1, "epoch": 0, "seconds": 10.0, "train/loss": 4.0, "online/knn_top1": 0.5},
        {"step": 2, "epoch": 1, "seconds": 50.0, "train/loss": None},
        {"step": 3, "epoch": 2, "seconds": 5.0, "train/loss": None},
    ]
    rows += [{"step": step, "epoch": 2, "seconds": 5.0 + step, "train/loss": None} for step in range(4, 8)]
    write_rows(tmp_path / "metrics.jsonl", rows)
    cards = {card.label: card.value for card in key_numbers(RunRecord.read(RunFolder(tmp_path), "run"))}
    assert cards == {
        "Online kNN, last": "50.0\N{NO-BREAK SPACE}%",
        "Training loss, last": "not finite",
        "Epoch reached": "3 of 8",
        "Training time": "57 s",
    }


def test_settings_differ_by_value_presence_and_type() -> None:
    configs = [{"a": {"b": 1, "same": [1, 2]}, "c": "1"}, {"a": {"b": 2, "same": [1, 2]}, "d": None}]
    assert differing_settings(configs) == {"a.b": ["1", "2"], "c": ["1", "—"], "d": ["—", "null"]}
    assert differing_settings([configs[0]]) == {}


def test_facts_name_the_pieces_of_a_loss() -> None:
    arguments = {
        "objective": {"class_path": "contrast.losses.DCL"},
        "temperature": {"class_path": "contrast.losses.LearnedTemperature", "init_args": {"start": 0.1}},
        "transforms": [{"class_path": "contrast.losses.HardNegativeMixing"}],
        "weighting": {"class_path": "contrast.losses.BadPairMining"},
    }
    loss = {"class_path": "contrast.losses.ContrastiveLoss", "init_args": arguments}
    facts = run_facts({"model": {"class_path": "contrast.methods.MoCo", "init_args": {"loss": loss}}})
    expected = {"Method": "MoCo", "Loss": "DCL + HardNegativeMixing + BadPairMining"}
    assert facts == expected | {"Temperature": "LearnedTemperature (start 0.1)"}


@pytest.mark.parametrize("config", [{}, {"model": None, "data": [], "trainer": 3}, {"model": {"init_args": 1}}])
def test_facts_of_a_strange_configuration_are_few(config: dict[str, Any]) -> None:
    assert run_facts(config) == {}
