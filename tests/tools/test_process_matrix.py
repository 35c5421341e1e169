"""The matrix of one process and several: a few of its rows, and that it fails where something is taken away."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools.process_matrix.apart import apart
from tools.process_matrix.breaks import BREAKS
from tools.process_matrix.cases import CASES

ROOT = Path(__file__).parents[2]
NAMES = ["SimCLR, DCLW", "MoCo, both directions", "MoCo, FaissBank, sharded", "SimCLR, DBPM", "VICReg"]
SEEN_IN = {
    "no gather": "loss",
    "a gather without gradient": "gradients",
    "the gradient's scale": "gradients",
    "the global mean": "loss",
    "an offset of the index": "loss",
    "a bank of local keys": "banks and memories",
    "statistics of local losses": "banks and memories",
    "records of one process": "records",
}
"""Where each is to be noticed at least."""


def rows(*words: str) -> list[list[str]]:
    """The rows of the tables that the tool prints, cell by cell."""
    command = [sys.executable, "-m", "tools.process_matrix", "--cases", *NAMES, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    return [row for row in cells if len(row) > 2 and not set(row[1]) <= {"-"}]


def test_processes_equal_one() -> None:
    found = [row for row in rows("--processes", "2", "4") if row[0] in NAMES]
    assert len(found) == 4 * len(NAMES)  # 2 and 4 processes, float64 and float32
    assert not any("**" in cell for row in found for cell in row)


def test_what_is_taken_away_is_noticed() -> None:
    failed = {row[0]: row[2] for row in rows("--break") if row[0] in SEEN_IN}
    assert failed.keys() == SEEN_IN.keys() == BREAKS.keys()
    for broken, part in SEEN_IN.items():
        assert part in failed[broken], broken


def test_every_method_is_in_it() -> None:
    from contrast import methods

    made = {type(make()).__name__ for make in CASES.values()}
    assert made == set(methods.__all__) - {"ContrastiveMethod", "Meeting", "KeySource"}


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        (torch.tensor([2.0, 1.0]), torch.tensor([2.0, 1.5]), 0.25),
        (torch.tensor([1]), torch.tensor([2]), math.inf),
        (torch.zeros(2), torch.zeros(3), math.inf),
        (torch.tensor([math.nan]), torch.tensor([math.nan]), 0.0),
        (torch.tensor([math.nan]), torch.tensor([1.0]), math.inf),
        ({"a": [1.0, 0.5]}, {"a": [1.0, 0.25]}, 0.25),
        ({"a": 1.0}, {"b": 1.0}, math.inf),
        ([1, 2], [1], math.inf),
        ("x", "y", math.inf),
    ],
    ids=str,
)
def test_how_far_apart(one: object, other: object, far: float) -> None:
    assert apart(one, other) == far
