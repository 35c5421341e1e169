"""The matrix of one process and several: a few of its rows, and that it fails where something is taken away."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from contrast.commands.class_names import choices
from tests.harness.pieces import SLOTS, pieces
from tests.harness.process_matrix.__main__ import bound
from tests.harness.process_matrix.apart import apart
from tests.harness.process_matrix.breaks import BREAKS, WITNESSES
from tests.harness.process_matrix.cases import CASES
from tests.harness.process_matrix.training import train

ROOT = Path(__file__).parents[2]
NAMES = ["SimCLR, DCLW", "MoCo, FaissBank, sharded IVF", "SimCLR, DBPM", "VICReg"]
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
    command = [sys.executable, "-m", "tests.harness.process_matrix", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    return [row for row in cells if len(row) > 2 and not set(row[1]) <= {"-"}]


def test_processes_equal_one() -> None:
    found = [row for row in rows("--cases", *NAMES, "--processes", "2", "4") if row[0] in NAMES]
    assert len(found) == 4 * len(NAMES)  # 2 and 4 processes, float64 and float32
    assert not any("**" in cell for row in found for cell in row)


def test_what_is_taken_away_is_noticed() -> None:
    assert WITNESSES.keys() == SEEN_IN.keys() == BREAKS.keys()
    failed = {row[0]: row[1:] for row in rows("--break", "--witnesses") if row[0] in SEEN_IN}
    assert failed.keys() == SEEN_IN.keys()
    for broken, part in SEEN_IN.items():
        assert failed[broken][0] == "1 of 1", broken
        assert part in failed[broken][1], broken


@pytest.mark.parametrize("part", ["loss", "gradients", "parameters", "records"])
def test_a_bank_in_single_precision_relaxes_no_bound_but_its_own(part: str) -> None:
    for name in CASES:
        assert bound(name, part, torch.float64) == 1e-10
    assert bound("MoCo, FaissBank, hardest", "banks and memories", torch.float64) == 1e-5
    assert bound("MoCo", "banks and memories", torch.float64) == 1e-10


@pytest.mark.parametrize("slot", SLOTS)
def test_every_piece_is_in_it(slot: str) -> None:
    made = set[str]().union(*(pieces(make()) for make in CASES.values()))
    assert set(choices(slot)) <= made


@pytest.mark.parametrize("name", [name for name in CASES if "IVF" in name or "HNSW" in name])
def test_an_approximate_search_is_in_use_where_a_row_says_so(name: str) -> None:
    (used,) = (
        value for key, value in train(name, torch.float64)["memories"].items() if key.endswith("approximate.used")
    )
    assert int(used) >= 0


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
