"""Folders of runs, and dashboards that serve them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dashboard.serving import Dashboard, serving
from tests.report.synthetic import Shape, write_run

SMALL = Shape(snapshots=3, epochs=2)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, one of them in a folder of its own, and things that are none."""
    folder = tmp_path / "runs"
    write_run(folder / "first", SMALL)
    write_run(folder / "sweep" / "seed 1 #?%&", Shape(snapshots=3, epochs=2, objective="DCL", method="MoCo", seed=1))
    (folder / "notes").mkdir()
    (folder / "notes" / "read.me").write_text("no run")
    return folder


@pytest.fixture
def dashboard(runs: Path) -> Iterator[Dashboard]:
    with serving(runs) as found:
        yield found
