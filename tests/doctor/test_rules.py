"""Every rule speaks of a run that was really trained into its state (``tools/sick_runs.py``), and of no healthy one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.doctor import examine
from contrast.doctor.evidence import Evidence
from contrast.doctor.examine import RULES
from contrast.run_folder import RunFolder
from tools.sick_runs import RUNS, extract, train

EXTRACTS = Path(__file__).parent / "runs"
NUMBERS = {
    "failed": r"at step \d+: the loss was nan at step",
    "collapse": r"uniformity -0\.[0-3]\d,.* deviate by 0\.0\d+, where spread ones have 0\.12",
    "dimensional-collapse": r"use [5-7]\.\d of 64 directions",
    "no-learning": r"score 0\.1\d at the start, 0\.1\d now; kNN went from 9\d\.\d % to 9\d\.\d %",
    "loss-start": r"starts at (1\.\d\d; log\(K \+ 1\) of 510 .* is 6\.24, .* 1\.000|\d{2,3}\.\d\d;.*6\.24: the temp)",
    "temperature": r"(on 50\d of 510 negatives alike at temperature 5|at its lowest value: 0\.15|on 1\.\d of 510)",
    "positives-among-negatives": r"negatives of score 1\.00, and its positive wins in 0 %",
    "false-negatives": r"^(7|8|9)\d % of the denominator .* which are 50 % ",
    "duplicates": r"^7\d\d training samples have a near-duplicate \(\d{3} pairs of cosine 0\.99 or more\)",
    "queue-filling": r"20,000 keys is filled by 79 steps of 256 samples; a run of 50 steps never fills it",
    "shortcut": r"win .* in [5-9]\d % of queries, yet kNN went from 1\d\.\d % to 1\d\.\d %",
    "rate-and-batch": r"peaks at .* SGD is used at 0\.003 to 3",
    "bad-pairs": r"flags [3-9]\d % of the samples",
}


def named(run: str) -> str:
    """The rule that a run is about."""
    return next((rule for rule in NUMBERS if run == rule or run.startswith(f"{rule}-")), "")


@pytest.mark.parametrize("name", [name for name in RUNS if name != "healthy"])
def test_each_rule_speaks_of_the_run_that_has_it(name: str) -> None:
    findings = {finding.rule: finding for finding in examine(RunFolder(EXTRACTS / name)).findings}
    assert re.search(NUMBERS[named(name)], findings[named(name)].seen), findings[named(name)].seen


def test_every_rule_has_such_a_run_and_none_speaks_of_a_healthy_one() -> None:
    assert {named(name) for name in RUNS} - {""} == set(NUMBERS)
    assert len(RULES) == len(NUMBERS)
    found = examine(RunFolder(EXTRACTS / "healthy"))
    assert found.rows == 8
    assert found.findings == ()


def test_problems_come_before_warnings() -> None:
    found = examine(RunFolder(EXTRACTS / "loss-start-high")).findings
    assert [finding.severity for finding in found] == ["problem", "warning", "warning"]


@pytest.mark.parametrize("name", ["collapse", "temperature", "false-negatives", "no-learning"])
def test_rules_that_need_time_wait(name: str) -> None:
    assert examine(RunFolder(EXTRACTS / name), progress=0.1).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_runs_that_are_trained_anew_say_the_same(name: str, tmp_path: Path) -> None:
    run = train(tmp_path, name)
    rules = {finding.rule for finding in examine(run).findings}
    extract(run, tmp_path / "extract")
    assert rules == {finding.rule for finding in examine(RunFolder(tmp_path / "extract")).findings}
    assert (named(name) in rules) if name != "healthy" else not rules


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(RUNS)))
def test_what_is_no_number_silences_rules_and_raises_nothing(data: st.DataObject, name: str) -> None:
    run = Evidence.read(RunFolder(EXTRACTS / name))
    for part in (run.config, run.status, *run.observed, *run.metrics[-3:]):
        _spoil(part, data)
    assert all(finding is None or finding.seen for finding in (rule(run) for rule in RULES))


def _spoil(row: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(row)))
    if isinstance(row[key], dict) and row[key] and data.draw(st.booleans()):
        _spoil(row[key], data)
    else:
        row[key] = data.draw(ANY)


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "scores.jsonl", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b'{"step": 1, "posi', b"[[[", b"null", b"{" * 5000])
def test_a_damaged_file_is_as_one_that_is_not_there(name: str, content: bytes, tmp_path: Path) -> None:
    for run in ("healthy", "loss-start-high"):
        shutil.copytree(EXTRACTS / run, tmp_path / run)
        (tmp_path / run / name).write_bytes(content)
        damaged = examine(RunFolder(tmp_path / run))
        (tmp_path / run / name).unlink()
        assert damaged == examine(RunFolder(tmp_path / run))
    assert examine(RunFolder(tmp_path / "nothing")).findings == ()
