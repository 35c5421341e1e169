"""Rows survive kills, readers and numbers that JSON does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.records import append_row, every_row, last_row_per_step, mark_resumed, read_rows

small = settings(deadline=None, max_examples=20)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
rows_of_anything = st.lists(st.dictionaries(st.text(), st.one_of(values, st.lists(values, max_size=3)), max_size=4))


@small
@given(rows_of_anything)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("records") / "rows.jsonl"
    for row in rows:
        append_row(path, row)
    assert read_rows(path) == rows
    assert path.read_bytes().count(b"\n") == len(rows) if rows else not path.exists()


def test_no_file_yet_and_an_empty_one(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none.jsonl") == []
    (tmp_path / "empty.jsonl").touch()
    assert read_rows(tmp_path / "empty.jsonl") == []
    append_row(tmp_path / "empty.jsonl", {"step": 1})
    assert (tmp_path / "empty.jsonl").read_bytes() == b'{"step":1}\n'


def test_a_file_cut_anywhere_loses_the_cut_row_alone_and_takes_further_ones(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    rows = [{"step": step, "name": "ü\n", "counts": [step, 0.5]} for step in range(3)]
    for row in rows:
        append_row(whole, row)
    content = whole.read_bytes()
    ends = [place + 1 for place in range(len(content)) if content[place : place + 1] == b"\n"]
    for length in range(len(content) + 1):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[:length])
        # A row that lacks its line's end alone is whole.
        survivors = rows[: sum(end - 1 <= length for end in ends)]
        assert read_rows(cut) == survivors
        append_row(cut, {"step": 9})
        append_row(cut, {"step": 10})
        assert read_rows(cut) == [*survivors, {"step": 9}, {"step": 10}]


@pytest.mark.parametrize("damage", [b"\x00\xff\xfe", b"17", b'"text"', b"[1]", b"null", b"{", b"\xe2\x80", b"NaN", b""])
def test_a_line_that_is_no_row_is_passed_over(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step":1}\n' + damage + b'\n{"step":2}\n')
    assert read_rows(path) == [{"step": 1}, {"step": 2}]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    nan, infinite = float("nan"), float("inf")
    append_row(path, {"a": nan, "b": [1.5, infinite, (nan, 2)], "c": {"d": -infinite, 7: 1.0}, "e": 0.0})
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None, "7": 1.0}, "e": 0.0}
    assert "NaN" not in line
    assert "Infinity" not in line


def test_what_is_no_json_is_refused_and_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"step": 1})
    with pytest.raises(TypeError):
        append_row(path, {"step": object()})
    assert path.read_bytes() == b'{"step":1}\n'


def test_the_later_row_of_a_step_wins_key_by_key() -> None:
    rows = [
        {"format": 1},
        {"step": 3, "loss": 3.0},
        {"step": 1, "loss": 1.0},
        {"step": 3, "accuracy": 0.5},
        {"step": 1, "loss": 1.5, "rate": 0.1},
        {"step": 2, "loss": None},
    ]
    assert last_row_per_step(rows) == [
        {"step": 1, "loss": 1.5, "rate": 0.1},
        {"step": 2, "loss": None},
        {"step": 3, "loss": 3.0, "accuracy": 0.5},
    ]
    assert rows[1] == {"step": 3, "loss": 3.0}
    assert last_row_per_step([]) == []


WRITER = """
import sys
from pathlib import Path
from contrast.records import append_row
for step in range(int(sys.argv[2])):
    append_row(Path(sys.argv[1]), {"step": step, "counts": [step] * 200})
    print(step, flush=True)
"""


def writer(path: Path, rows: int) -> subprocess.Popen[str]:
    """A process that appends rows and says each that it has appended."""
    return subprocess.Popen([sys.executable, "-c", WRITER, path, str(rows)], stdout=subprocess.PIPE, text=True)


def test_a_reader_beside_a_writer_sees_whole_rows_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    seen: list[int] = []
    with writer(path, 1_500) as process:
        assert process.stdout is not None
        while process.stdout.readline():  # at the writer's pace: what it prints, up to a pipe's worth, is ahead of us
            rows = read_rows(path)
            assert [row["step"] for row in rows] == list(range(len(rows)))
            assert all(row["counts"] == [row["step"]] * 200 for row in rows)
            seen.append(len(rows))
            if len(rows) == 1_500:
                break
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert seen == sorted(seen)
    assert any(0 < count < 1_500 for count in seen), "the reader was never there in time"


def test_a_row_outlives_the_process_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with writer(path, 10**9) as process:
        assert process.stdout is not None
        for _ in range(50):
            told = int(process.stdout.readline())
        process.kill()
        process.wait(timeout=30)
    steps = [row["step"] for row in read_rows(path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > told
    append_row(path, {"step": -1})
    assert [row["step"] for row in read_rows(path)] == [*steps, -1]


def test_rows_of_a_run_that_went_on_from_an_earlier_step_no_longer_count(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    mark_resumed(path, 3)
    assert not path.exists()
    append_row(path, {"format": 2})
    for step in (1, 2, 3, 4):
        append_row(path, {"step": step, "from": "first"})
    mark_resumed(path, 2)
    append_row(path, {"step": 3, "from": "second"})
    assert read_rows(path) == [
        {"format": 2},
        {"step": 1, "from": "first"},
        {"step": 2, "from": "first"},
        {"step": 3, "from": "second"},
    ]
    mark_resumed(path, 0)
    append_row(path, {"step": 1, "from": "third"})
    assert read_rows(path) == [{"format": 2}, {"step": 1, "from": "third"}]
    assert len(every_row(path)) == 9
