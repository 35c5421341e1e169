"""Observers that a configuration lists: recorded, refused out of a received folder, and stopped where they fail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from contrast.cli import main
from contrast.commands.building import resolve, run_parser
from contrast.commands.completing import complete
from contrast.commands.configuration import Config, compose, shipped_configuration, short
from contrast.commands.trust import receive
from contrast.errors import InputError
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.status import read_status
from tests.commands import observers
from tests.commands.running import SMALL, pretrain

ROOT = Path(__file__).parents[2]
MARGINS, FAULTY = "tests.commands.observers.Margins", "tests.commands.observers.Faulty"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    listed = f"{{class_path: {MARGINS}, init_args: {{bins: 8}}}}"
    assert pretrain(folder.path, f"--scores.observers+={listed}", "--checkpoints.keep_every_n_epochs", "1") == 0
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run without an observer."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "plain")
    assert pretrain(folder.path) == 0
    return folder


def test_a_listed_observer_is_recorded_under_its_name(run: RunFolder, plain: RunFolder) -> None:
    recorded, others = read_rows(run.scores), read_rows(plain.scores)
    assert recorded[0] == others[0], "the header is the same"
    scalars = {row["step"]: row for row in read_rows(run.metrics) if "margins/mean" in row}
    for row, other in zip(recorded[1:], others[1:], strict=True):
        part = row.pop("margins")
        assert row == other, "the run's own records are unchanged"
        assert list(part) == ["mean", "over_hardest"]
        assert (
            part["mean"]
            == pytest.approx(part["over_hardest"]["mean"])
            == pytest.approx(row["embedding"]["margin"]["mean"])
        )
        assert part["over_hardest"]["edges"] == [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
        assert sum(part["over_hardest"]["counts"]) == 48
        assert scalars[row["step"]]["margins/mean"] == part["mean"]
        assert scalars[row["step"]]["margins/over_hardest/std"] == part["over_hardest"]["std"]
    config = yaml.safe_load(run.config.read_text())
    assert config["scores"]["observers"] == [{"class_path": MARGINS, "init_args": {"bins": 8}}]
    assert "margins/mean" in run.metrics_table.read_text().partition("\n")[0]


def test_recording_changes_no_training(run: RunFolder, plain: RunFolder) -> None:
    weights, others = (read_checkpoint(each.last_checkpoint)["state_dict"] for each in (run, plain))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_a_received_observer_is_not_imported_without_trust(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pretrain", "--resume", str(run.path), "--trainer.max_epochs", "3"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert f"scores.observers names {MARGINS!r}, which is not on the list" in said
    assert "--trust" in said
    assert main(["knn", str(run.path), "--neighbours", "5"]) == 0, "an evaluation needs no observer"
    assert main([*command, "--trust"]) == 0
    assert [row["step"] for row in read_rows(run.scores)[1:] if "margins" in row] == list(range(1, 10))


def test_a_name_of_the_runs_own_records_is_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(tmp_path / "run", "--scores.observers+=tests.commands.observers.Taken") == 2
    said = capsys.readouterr().err
    assert (
        "tests.commands.observers.Taken has the name 'gradient', which the run's own records use: set another" in said
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("Spread", "no class 'Spread'; give a class's dotted path"),
        ("tests.commands.observers.Nothing", "Nothing"),
        ("contrast.losses.InfoNCE", "'InfoNCE' is an objective, which does not fit here"),
        ("contrast.observation.Observer", "is abstract"),
    ],
)
def test_what_is_no_observer_is_refused_in_one_line(
    listed: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(tmp_path / "run", f"--scores.observers+={listed}") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "scores.observers" in line
    assert said in line


def names(config: Config) -> list[Any]:
    return [short(each if isinstance(each, str) else each["class_path"]) for each in config["scores"]["observers"]]


def test_flags_append_to_the_list_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "observers.yaml"
    file.write_text(yaml.safe_dump({"scores": {"observers": [MARGINS]}}))
    taken = "{class_path: tests.commands.observers.Taken, init_args: {bins: 3}}"
    flags = [("scores.observers+", taken), ("scores.observers+", f"[{FAULTY}, {MARGINS}]")]
    assert names(compose([file], flags).config) == ["Margins", "Taken", "Faulty", "Margins"]
    alone = compose([shipped_configuration("demo.yaml")], [*flags[:1], ("scores.observers+", MARGINS)]).config
    _, plain = resolve(run_parser(), complete(alone))
    assert names(plain) == ["Taken", "Margins"]
    assert plain["scores"]["observers"][0]["init_args"] == {"bins": 3}


def test_a_resume_may_append_a_class_that_the_user_names() -> None:
    """Without trust: the user's own observer is allowed, and one of the file is not, wherever it stands."""
    stored: Config = {"scores": {"observers": []}}
    given = compose([], [("scores.observers+", MARGINS)]).config
    config = compose([], [("scores.observers+", MARGINS)], stored).config
    assert names(receive(config, "file", given)) == ["Margins"]
    for first, last in ((FAULTY, MARGINS), (MARGINS, FAULTY)):
        with pytest.raises(InputError, match="which is not on the list"):
            receive({"scores": {"observers": [first, last]}}, "file", given)
    with pytest.raises(InputError, match="no argument 'observers\\+' of Recorder"):
        receive({"scores": {"observers+": [FAULTY]}}, "file", {})


FAULTS = {
    "nan": r"Faulty\.row\(\): mean is nan, not a finite number: leave the key out",
    "tensor": r"Faulty\.row\(\): mean is a Tensor, tensor\(1\.\): give a number",
    "raise": r"Faulty\.add raised ZeroDivisionError: no negatives at line \d+ of its file: correct the class",
    "raise in row": r"Faulty\.row raised IndexError: no rows",
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_failing_observer_stops_the_run_and_loses_nothing(
    how: str, plain: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    observers.Faulty.steps = 0
    folder = RunFolder(tmp_path / "run")
    listed = f"[{MARGINS}, {{class_path: {FAULTY}, init_args: {{how: {how}}}}}]"
    step = 2 if how == "raise in row" else 3  # step 3 ends an epoch
    listed = listed.replace("}}", f", step: {step}}}}}")
    assert pretrain(folder.path, "--scores.observers", listed) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert re.search(FAULTS[how], line)
    assert f"step {step} is recorded without it; go on with: contrast pretrain --resume " in line
    assert line.endswith("--trust")
    rows = read_rows(folder.scores)[1:]
    assert [row["step"] for row in rows] == list(range(1, step + 1))
    assert ["faulty" in row for row in rows] == [True] * (step - 1) + [False]
    assert all("margins" in row and "negative" in row for row in rows)
    status = read_status(folder.status)
    assert status is not None
    assert (status.state, status.step) == ("failed", step)
    assert "Faulty" in status.message
    assert main(["pretrain", "--resume", str(folder.path), "--scores.observers", "[]"]) == 0
    ended, others = (read_checkpoint(each.last_checkpoint)["state_dict"] for each in (folder, plain))
    assert all(torch.equal(value, others[name]) for name, value in ended.items()), "as if it had never stopped"
    assert [row["step"] for row in read_rows(folder.scores)[1:]] == list(range(1, 7))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("each process its own", "mean differs between processes (0 and 1): sum over all processes"),
        ("raise in one process", "Faulty.add raised ZeroDivisionError: no negatives"),
    ],
)
def test_two_processes_stop_together(how: str, said: str, tmp_path: Path) -> None:
    listed = f"{{class_path: {FAULTY}, init_args: {{how: {how}, step: 2}}}}"
    head = "{class_path: MLPHead, init_args: {hidden_width: 16, output_width: 8}}"
    words = [*SMALL, "--run", str(tmp_path / "run"), f"--scores.observers+={listed}", "--trainer.devices", "2"]
    words += ["--model.head", head, "--data.batch_size", "16", "--online_knn.every_n_epochs", "0"]
    command = [sys.executable, "-m", "contrast", "pretrain", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(said) == 1, done.stderr
    assert [row["step"] for row in read_rows(tmp_path / "run/scores.jsonl")[1:]] == [1, 2]
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()
