"""Run folders and pages that several tests look at, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.report.synthetic import Shape, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with 200 snapshots."""
    return write_run(tmp_path_factory.mktemp("runs") / "simclr")


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shorter run of another objective, temperature and seed."""
    shape = Shape(objective="DCL", temperature=0.1, seed=1, epochs=40, snapshots=60)
    return write_run(tmp_path_factory.mktemp("runs") / "dcl", shape)


@pytest.fixture(scope="session")
def page(run: Path) -> str:
    return build_page(read_runs([RunFolder(run)]))


@pytest.fixture(scope="session")
def page_of_two(run: Path, other_run: Path) -> str:
    return build_page(read_runs([RunFolder(run), RunFolder(other_run)]))
