"""Every rule reports a run that was trained into its state (``tests/harness/sick_runs.py``), and no healthy run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.doctor import examine
from contrast.doctor.data_rules import INPUT_RULES
from contrast.doctor.evidence import Evidence
from contrast.doctor.examine import RULES
from contrast.doctor.training_rules import damaged_file, inactive
from contrast.run_folder import RunFolder
from tests.harness.sick_runs import HEALTHY, RUNS, extract, train

EXTRACTS = Path(__file__).parent / "runs"
NUMBERS = {
    "failed": r"at step \d+: the loss was nan at step",
    "collapse": r"uniformity -0\.[0-3]\d .* deviation is 0\.0\d+, and spread embeddings have 0\.12",
    "dimensional-collapse": r"use [3-7]\.\d of 64 directions",
    "no-learning": r"score (-?0\.\d\d) at the start, -?0\.\d\d now; kNN went from 9\d\.\d % to 9\d\.\d %",
    "loss-start": r"starts at (1\.\d\d; log\(K \+ 1\) of 510 .* is 6\.24, .* 1\.000|\d{2,3}\.\d\d;.*6\.24: the temp)",
    "temperature": r"(equally on 50\d of 510 negatives at temperature 5|at its lowest value: 0\.15|on 1\.\d of 510)",
    "positives-among-negatives": r"negatives score 1\.00, and the positive has the highest score in only 0 %",
    "false-negatives": r"class have (7|8|9)\d % of the softmax denominator, and this class has 50 % ",
    "labels": r"learns from labels, and (100 % of all samples have the|no two samples have the same label: it is)",
    "duplicates": r"^1,4\d\d training samples have a near-duplicate \(\d{3} pairs of cosine 0\.9999 or more\)",
    "queue-filling": r"20,000 keys needs 79 steps of 256 samples to fill; this run of 50 steps never fills it",
    "shortcut": r"scores above all negatives in [5-9]\d % of queries, yet kNN went from 1\d\.\d % to 1\d\.\d %",
    "rate-and-batch": r"peaks at .* usual rates of SGD are 0\.003 to 3",
    "bad-pairs": r"flags [3-9]\d % of the samples",
    "below-raw-input": r"kNN is at 9\d\.\d %, and raw pixels at 97\.\d %: −\d\.\d \[−\d\.\d, [−+]\d\.\d\] points",
}


def named(run: str) -> str:
    """The rule that a run is about."""
    return next((rule for rule in NUMBERS if run == rule or run.startswith(f"{rule}-")), "")


@pytest.mark.parametrize("name", sorted(set(RUNS) - set(HEALTHY)))
def test_each_rule_speaks_of_the_run_that_has_it(name: str) -> None:
    findings = {finding.rule: finding for finding in examine(RunFolder(EXTRACTS / name)).findings}
    assert re.search(NUMBERS[named(name)], findings[named(name)].seen), findings[named(name)].seen


def test_every_rule_has_such_a_run() -> None:
    assert {named(name) for name in RUNS} - {""} == set(NUMBERS)
    of_the_start = {
        *INPUT_RULES,
        inactive,
        damaged_file,
    }  # what they read is written before the first step: see test_input
    assert len(set(RULES) - of_the_start) == len(NUMBERS)


@pytest.mark.parametrize("name", HEALTHY)
def test_no_rule_speaks_of_a_healthy_run(name: str) -> None:
    found = examine(RunFolder(EXTRACTS / name))
    assert found.rows == 8
    assert found.findings == ()


def test_healthy_runs_have_what_each_rule_looks_at() -> None:
    """Else silence would say nothing: a queue, mined pairs, a learned temperature, a search for duplicates."""
    runs = {name: Evidence.read(RunFolder(EXTRACTS / name)) for name in HEALTHY}
    moco, pairs = runs["healthy-moco"], runs["healthy-bad-pairs"]
    assert moco.setting("model", "init_args", "bank", "init_args", "size") == 512
    assert 0 < sum(pairs.scalars(f"bad_pairs/{kind}")[-1] for kind in ("noisy", "faulty")) < 0.3
    bounds = ("model", "init_args", "loss", "init_args", "temperature", "init_args")
    tau = runs["healthy-temperature"].settled("temperature", "value")
    assert all(runs["healthy-temperature"].setting(*bounds, name) for name in ("lowest", "highest"))
    assert tau is not None
    assert runs["healthy-duplicates"].duplicates["within train"]["pairs"] == 0
    assert runs["healthy-hardest-negative"].settled("gradient", "effective", "mean") == 1.0
    assert runs["healthy-vicreg"].first("negative", "mean") is None
    for name in ("healthy-sup-con", "healthy-look"):
        assert runs[name].settled("negative", "mean") is not None
    for run in runs.values():
        assert run.of_random_weights("online/knn_top1") is not None or run.setting("data", "init_args", "test") is None


def test_a_run_that_is_no_better_than_random_weights() -> None:
    """BYOL with few directions left."""
    findings = {
        finding.rule: finding.seen for finding in examine(RunFolder(EXTRACTS / "dimensional-collapse-byol")).findings
    }
    assert set(findings) == {"dimensional-collapse", "no-learning"}
    assert re.search(r"kNN accuracy is 9[0-4]\.\d %; with random weights it was 96\.4 %", findings["no-learning"])


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
    assert not rules if name in HEALTHY else named(name) in rules


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
def test_a_damaged_file_is_as_one_that_is_not_there_and_is_told(name: str, content: bytes, tmp_path: Path) -> None:
    rows_yet = not content and name.endswith(".jsonl")  # a file of rows is empty until there is one
    for run in ("healthy", "loss-start-high"):
        shutil.copytree(EXTRACTS / run, tmp_path / run)
        (tmp_path / run / name).write_bytes(content)
        damaged = examine(RunFolder(tmp_path / run))
        told = [finding for finding in damaged.findings if finding.rule == "damaged-file"]
        assert [finding.seen.partition(" ")[0] for finding in told] == ([] if rows_yet else [name])
        others = tuple(finding for finding in damaged.findings if finding not in told)
        (tmp_path / run / name).unlink()
        assert replace(damaged, findings=others) == examine(RunFolder(tmp_path / run))
    assert examine(RunFolder(tmp_path / "nothing")).findings == ()


def changed(name: str, tmp_path: Path, settings: dict[str, Any]) -> RunFolder:
    """A copy of a run's extract with other settings, each a path of names and dots."""
    copy = Path(shutil.copytree(EXTRACTS / name, tmp_path / name))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for path, value in settings.items():
        *outer, last = path.split(".")
        place = config
        for part in outer:
            place = place[part]
        place[last] = value
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    return RunFolder(copy)


@pytest.mark.parametrize(
    ("settings", "samples"),
    [
        ({}, 256),
        ({"trainer.devices": 4}, 1024),
        ({"trainer.devices": [0, 1]}, 512),
        ({"trainer.devices": "auto"}, 256),
        ({"trainer.devices": -1}, 256),
        ({"trainer.num_nodes": 2, "trainer.devices": 2, "trainer.accumulate_grad_batches": 3}, 3072),
        ({"trainer.accumulate_grad_batches": True}, 256),
        ({"data.init_args.batch_size": None}, None),
    ],
)
def test_samples_of_a_step_are_of_all_devices_and_batches(
    settings: dict[str, Any], samples: int | None, tmp_path: Path
) -> None:
    folder = changed("queue-filling", tmp_path, settings)
    assert Evidence.read(folder).samples_per_step == samples
    said = [finding.seen for finding in examine(folder).findings if finding.rule == "queue-filling"]
    if samples is None or samples >= 1024 + 256:
        assert not said
    else:
        assert f"needs {-(-20_000 // samples)} steps of {samples:,} samples to fill" in said[0]


def test_rates_are_for_all_of_a_steps_samples(tmp_path: Path) -> None:
    folder = changed("rate-and-batch", tmp_path, {"trainer.devices": 2, "trainer.accumulate_grad_batches": 4})
    assert "rate-and-batch" not in {finding.rule for finding in examine(folder).findings}


def test_a_class_share_stands_beside_chance_of_whatever_bank(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(EXTRACTS / "false-negatives", tmp_path / "run"))
    rows = [json.loads(line) for line in (copy / "scores.jsonl").read_text().splitlines()]
    for chance, said in (
        ({"random": 0.125}, ", and this class has 12 % of all samples"),
        ({"shared": 0.5}, ", and this class has 50 %"),
        ({}, "denominator."),
    ):
        for row in rows:
            row["false_negatives"] = {"denominator": 0.9, **chance}
        (copy / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (found,) = (each for each in examine(RunFolder(copy)).findings if each.rule == "false-negatives")
        shares = "Negatives of the query's own class have 90 % of the softmax denominator"
        assert f"{shares}{said}" in found.seen or said == "denominator."
        assert found.seen.endswith("denominator.") == (said == "denominator.")


@pytest.mark.parametrize(("gain", "speaks"), [([-0.01, -0.02, 0.0], True), ([0.01, -0.01, 0.03], False)])
def test_a_probe_no_better_than_of_random_weights(gain: list[float], speaks: bool, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(EXTRACTS / "healthy", tmp_path / "run"))
    (copy / "summary.json").write_text(json.dumps({"few_label_gain_over_random_init": gain}))
    found = [finding.seen for finding in examine(RunFolder(copy)).findings]
    assert found == (
        ["Features are no better than with random weights: the probe on few labels is 1.0 points below random weights."]
        if speaks
        else []
    )


@pytest.mark.parametrize(("start", "end", "speaks"), [(0.9, 0.87, True), (0.9, 0.89, False), (None, 0.5, False)])
def test_knn_worse_than_of_random_weights(start: float | None, end: float, speaks: bool, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(EXTRACTS / "healthy", tmp_path / "run"))
    rows = [row for line in (copy / "metrics.jsonl").read_text().splitlines() if (row := json.loads(line))["step"]]
    rows = [{key: value for key, value in row.items() if key != "online/knn_top1"} for row in rows]
    rows = [{"step": 0, "online/knn_top1": start}, *rows, {"step": 100, "online/knn_top1": end}]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {finding.rule: finding.seen for finding in examine(RunFolder(copy)).findings}
    assert ("no-learning" in found) == speaks
    if speaks:
        assert "kNN accuracy is 87.0 %; with random weights it was 90.0 %" in found["no-learning"]


def test_one_negative_may_decide_where_it_is_meant_to(tmp_path: Path) -> None:
    """Of the same rows, only another objective is warned of."""
    other = {"model.init_args.loss.init_args.objective.class_path": "contrast.losses.InfoNCE"}
    (found,) = examine(changed("healthy-hardest-negative", tmp_path, other)).findings
    assert found.rule == "temperature"
    assert "falls on 1.0 of 510 negatives" in found.seen


def with_rows(name: str, to: Path, **changes: dict[str, Any]) -> RunFolder:
    """A copy of a run's extract with other numbers in every observed row, by block; None takes a number away."""
    copy = Path(shutil.copytree(EXTRACTS / name, to / "run"))
    rows = [json.loads(line) for line in (copy / "scores.jsonl").read_text().splitlines()]
    for row in rows:
        for block, numbers in changes.items():
            row[block] = {key: value for key, value in (row.get(block, {}) | numbers).items() if value is not None}
    (copy / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFolder(copy)


def said(folder: RunFolder) -> dict[str, str]:
    """What is found, by rule."""
    return {finding.rule: f"{finding.seen} {finding.fix}" for finding in examine(folder).findings}


POSSIBLE: dict[str, tuple[dict[str, Any], int | None, str, str]] = {
    "SimSiam, batch 32": ({"rank_me": 54.8, "width": 2048, "rows": 64}, 2048, "", ""),
    "batch 8": ({"rank_me": 12.2, "width": 128, "rows": 16}, 128, "", ""),
    "Barlow Twins, width 8192": ({"rank_me": 300.0, "width": 8192, "rows": 512}, 2048, "", ""),
    "few of many rows": ({"rank_me": 6.0, "width": 2048, "rows": 64}, 2048, "dimensional-collapse", "6.0 of 64 dir"),
    "few of all": ({"rank_me": 6.0, "width": 64, "rows": 256}, 128, "dimensional-collapse", "6.0 of 64 directions ("),
    "narrow backbone": ({"rank_me": 8.8, "width": 128, "rows": 256}, 8, "narrow-features", "gives the head only 8 fea"),
    "narrow and collapsed": ({"rank_me": 1.9, "width": 128, "rows": 256}, 32, "dimensional-collapse", "1.9 of 128 di"),
    "narrow, used": ({"rank_me": 20.0, "width": 128, "rows": 256}, 8, "", ""),
    "features unknown": ({"rank_me": 6.0, "width": 128, "rows": 256}, None, "dimensional-collapse", "6.0 of 128"),
    "an old row": ({"rank_me": 6.0, "width": 64, "rows": None}, 128, "", ""),
    "an old row with its spectrum": (
        {"rank_me": 6.0, "width": 128, "rows": None, "spectrum": {"place": [1, 2, 64], "value": [1, 0.5, 0.1]}},
        *(128, "dimensional-collapse", "6.0 of 64 directions that 64 rows can span"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", POSSIBLE)
def test_directions_are_compared_with_those_that_are_possible(kind: str, tmp_path: Path) -> None:
    embedding, features, rule, words = POSSIBLE[kind]
    folder = with_rows("dimensional-collapse", tmp_path, embedding=embedding, features={"width": features})
    found = {name: text for name, text in said(folder).items() if name in ("dimensional-collapse", "narrow-features")}
    assert set(found) == ({rule} if rule else set())
    assert not rule or words in found[rule]


@pytest.mark.parametrize(
    ("chance", "share", "speaks"),
    [(1.0, 1.0, False), (0.9, 0.93, False), (0.9, 0.95, True), (0.5, 0.75, True), (0.1, 0.65, False), (0.1, 0.8, True)],
)
def test_a_share_of_the_denominator_is_compared_with_the_class(
    chance: float, share: float, speaks: bool, tmp_path: Path
) -> None:
    """Where nearly all samples are of one class, so is the denominator, and no loss can change it."""
    rates = {"random": chance, "denominator": share}
    assert ("false-negatives" in said(with_rows("false-negatives", tmp_path, false_negatives=rates))) is speaks


@pytest.mark.parametrize(("name", "rule"), [("shortcut", "shortcut"), ("loss-start-high", "loss-start")])
@pytest.mark.parametrize(("negatives", "speaks"), [(6, False), (510, True)])
def test_bounds_on_queries_wait_for_negatives(
    name: str, rule: str, negatives: int, speaks: bool, tmp_path: Path
) -> None:
    """Of six negatives a positive beats all by chance, and the loss of the first step is anything."""
    assert (rule in said(with_rows(name, tmp_path, gradient={"negatives": negatives}))) is speaks


def with_metrics(name: str, to: Path, **values: float) -> RunFolder:
    """A copy of a run's extract with one value of each metric in every row that has it."""
    copy = Path(shutil.copytree(EXTRACTS / name, to / "run"))
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {key: value for key, value in values.items() if key in row}
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFolder(copy)


@pytest.mark.parametrize(
    ("metrics", "words", "never"),
    [
        ({}, "Raise the learning rate; its peak is 9.93e-08", "nothing"),
        ({"train/rate": 0.1}, "Check that the views of a sample differ", "Raise the learning rate"),
        ({"train/rate": 0.0}, "Raise the learning rate; its peak is 0", "nothing"),
        ({"online/knn_top1": 1.0}, "now. Raise", "kNN went"),
        ({"online/knn_top1": 0.9}, "kNN went from 90.0 % to 90.0 %", "nothing"),
    ],
)
def test_no_learning_names_a_cause_that_it_can_show(
    metrics: dict[str, float], words: str, never: str, tmp_path: Path
) -> None:
    found = said(with_metrics("no-learning", tmp_path, **metrics))["no-learning"]
    assert words in found
    assert never not in found


def test_a_rate_of_0_is_no_matter_of_the_batch(tmp_path: Path) -> None:
    found = said(with_metrics("no-learning", tmp_path, **{"train/rate": 0.0}))["rate-and-batch"]
    assert found.startswith("The learning rate is 0 at every recorded step: nothing is trained.")
    assert "batch" not in found


@pytest.mark.parametrize(
    ("optimizer", "rate", "batch", "speaks"),
    [("Adam", 1e-3, 8, False), ("AdamW", 0.05, 8, True), ("AdamW", 5e-3, 4096, False), ("Adam", 1e-7, 256, True),
     ("SGD", 0.2, 8, True), ("SGD", 0.03, 8, False)],
)  # fmt: skip
def test_adaptive_optimisers_need_no_smaller_rate_for_small_batches(
    optimizer: str, rate: float, batch: int, speaks: bool, tmp_path: Path
) -> None:
    folder = with_metrics("healthy", tmp_path, **{"train/rate": rate})
    config = yaml.safe_load(folder.config.read_text())
    config["model"]["init_args"]["optimizer"]["class_path"] = f"torch.optim.{optimizer}"
    config["data"]["init_args"]["batch_size"] = batch
    folder.config.write_text(yaml.safe_dump(config))
    assert ("rate-and-batch" in said(folder)) is speaks


@pytest.mark.parametrize(
    ("within", "words"),
    [
        (
            {"of_two_classes": 312},
            "312 of the pairs have two different labels; the samples of the other pairs are false",
        ),
        ({"of_two_classes": 777}, "777 of the pairs have two different labels. Check"),
        (
            {"of_two_classes": 0},
            "128 training samples have a near-duplicate (777 pairs of cosine 0.9999 or more): they",
        ),
        ({"of_two_classes": None}, "copies are false negatives of each other"),
        ({"of_two_classes": 0, "complete": False}, "128 training samples have a near-duplicate (at least 777 pairs"),
        ({"of_two_classes": 0, "complete": None}, "At least 128 training samples have a near-duplicate (at least 777"),
    ],
)
def test_near_duplicates_are_told_as_they_were_counted(within: dict[str, Any], words: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(EXTRACTS / "duplicates", tmp_path / "run"))
    content = {"threshold": 0.9999, "within train": {"pairs": 777, "samples": 128, "complete": True, **within}}
    (copy / "duplicates/duplicates.json").write_text(json.dumps(content))
    assert words in said(RunFolder(copy))["duplicates"]
