"""What a poll costs: it reads what was appended, and looks at the files of runs that have ended from outside only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.dashboard import listing
from contrast.dashboard import pages as report_pages
from contrast.dashboard.listing import Listing
from contrast.dashboard.pages import LineCounts, rows_written
from contrast.dashboard.runs_folder import RunsFolder
from contrast.dashboard.summary import Scalars
from contrast.records import append_row, mark_resumed
from contrast.report.numbers import number, series_of
from contrast.report.run_record import rows_by_step
from contrast.run_folder import RunFolder
from contrast.runs.status import write_status
from tests.dashboard.test_list import said
from tests.report.synthetic import Shape, write_run

ROWS = st.lists(
    st.one_of(
        st.builds(lambda step: {"resumed": step}, st.integers(0, 9)),
        st.builds(
            lambda step, name, value: {"step": step, "epoch": step // 3, name: value},
            st.integers(0, 9),
            st.sampled_from(["train/loss", "online/knn_top1"]),
            st.one_of(st.none(), st.floats(0, 1)),
        ),
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, looks=st.sets(st.integers(0, 20)))
def test_a_file_followed_bit_by_bit_says_what_reading_it_whole_says(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], looks: set[int]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "metrics.jsonl"
    followed = Scalars(path)
    for place, row in enumerate(rows):
        append_row(path, row)
        if place in looks:
            with open(path, "ab") as file:
                file.write(b'{"step": 3, "ep')  # a row that is being written
            followed.follow()
            os.truncate(path, path.stat().st_size - 15)
            followed.follow()
    followed.follow()
    whole = rows_by_step(path)
    for key in ("train/loss", "online/knn_top1"):
        written = {row["step"]: value for row in whole if (value := number(row.get(key))) is not None}
        assert followed.finite(key) == list(written.values()) == [v for v in series_of(whole, key).y if v is not None]
    assert followed.last_step == (whole[-1]["step"] if whole else None)


def test_a_poll_reads_the_rows_that_were_appended(runs: Path) -> None:
    metrics = runs / "first/metrics.jsonl"
    found = Listing(RunsFolder(runs))
    found.rows()
    before = found._scalars["first"].rows_read
    assert before == 42
    for step in range(400, 410):
        append_row(metrics, {"step": step, "epoch": 2, "train/loss": 1.0})
        found.rows()
    assert found._scalars["first"].rows_read == before + 10
    mark_resumed(metrics, 400)
    found.rows()
    assert found._scalars["first"].rows_read == before + 11
    assert found._scalars["first"].last_step == 400
    metrics.write_text('{"step": 1, "epoch": 0, "train/loss": 2.0}\n')  # another file, shorter
    found.rows()
    assert found._scalars["first"].finite("train/loss") == [2.0]


def test_counting_rows_reads_what_was_appended(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(file: Path, mode: str) -> Any:
        opened = open(file, mode)  # noqa: SIM115
        whole = opened.read
        opened.read = lambda size: (part := whole(size), read.append(len(part)))[0]  # type: ignore[method-assign]
        return opened

    monkeypatch.setattr(report_pages, "open", counted, raising=False)
    counts, run = LineCounts(), RunFolder(runs / "first")
    lines = rows_written([run], counts)
    size = sum(file.stat().st_size for file in run.path.glob("*.jsonl"))
    assert sum(read) == size
    append_row(run.metrics, {"step": 400})
    assert rows_written([run], counts) == lines + 1
    assert sum(read) == size + len(b'{"step":400}\n')


def test_runs_that_have_ended_are_only_looked_at_from_outside(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither read nor drawn again, and their pictures, which may be thousands, are not visited."""
    write_status(runs / "first/status.json", said(state="finished"))
    (runs / "first/gallery").mkdir()
    for number_of in range(300):
        (runs / f"first/gallery/{number_of}.png").touch()
    found = Listing(RunsFolder(runs))
    rows = found.rows()
    drawn: list[str] = []
    visited: list[str] = []
    rendered, files = listing.rendered, os.scandir
    monkeypatch.setattr(
        listing, "rendered", lambda name, values: (drawn.append(values["name"]), rendered(name, values))[1]
    )
    monkeypatch.setattr(os, "scandir", lambda path: (visited.append(os.fspath(path)), files(path))[1])
    assert found.rows() == rows
    assert "first" not in drawn
    first = [path for path in visited if path.endswith("/first")]
    assert len(first) == 1, "its files are visited once a poll"
    assert not [path for path in visited if path.endswith("gallery")]
    write_status(runs / "first/status.json", said(state="stopped", message="by hand"))
    assert "by hand" in next(row.html for row in found.rows() if row.name == "first")


def test_what_a_poll_visits_grows_with_the_runs_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[object] = []
    files = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (visited.append(path), files(path))[1])
    counts = {}
    for many in (3, 6):
        for place in range(many):
            if not (tmp_path / f"run-{place}").exists():
                write_run(tmp_path / f"run-{place}", Shape(snapshots=2, epochs=1))
                write_status(tmp_path / f"run-{place}/status.json", said(state="finished"))
        found = Listing(RunsFolder(tmp_path))
        found.rows()
        visited.clear()
        found.rows()
        counts[many] = len(visited)
    assert counts[6] - 1 == 2 * (counts[3] - 1)
