"""`contrast doctor`, and what it says while a run trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contrast.cli import main
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL
from tests.report.reading import Page

ROOT = Path(__file__).parents[2]
EXTRACTS = Path(__file__).parent / "runs"


def test_findings_are_printed_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(EXTRACTS / "loss-start-high"), str(EXTRACTS / "healthy")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{EXTRACTS / 'loss-start-high'}: 3 findings (8 observed steps)"
    assert [line for line in lines if line[:1].isupper()] == [
        "PROBLEM  collapse", "WARNING  loss-start", "WARNING  temperature",
    ]  # fmt: skip
    assert lines[-1] == f"{EXTRACTS / 'healthy'}: nothing found (8 observed steps)"


def test_findings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(EXTRACTS / "bad-pairs"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert [finding["rule"] for finding in found["findings"]] == ["bad-pairs"]
    assert set(found["findings"][0]) == {"rule", "severity", "seen", "fix", "mend"}
    assert found["findings"][0]["fix"] == found["findings"][0]["mend"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert "no run folder" in capsys.readouterr().err


def test_the_report_shows_them() -> None:
    page = Page(build_page(read_runs([RunFolder(EXTRACTS / "collapse")])))
    assert "What the doctor finds" in page.text
    assert "Embeddings are near one point" in page.text
    assert "What the doctor finds" not in Page(build_page(read_runs([RunFolder(EXTRACTS / "healthy")]))).text


def test_a_finding_is_said_once_while_a_run_trains(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, "--model.optimizer.lr", "1e-7"]
    longer = ["--trainer.max_epochs", "4", "--scores.every_n_steps", "1"]
    done = subprocess.run([*command, *longer, "--run", str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("doctor  no-learning: Embeddings have not changed since the random weights") == 1
