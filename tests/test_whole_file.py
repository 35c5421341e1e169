"""Files that appear whole or not at all, and what killed processes leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contrast.runs.files import remove_parts, whole_file


def test_the_new_file_takes_the_old_ones_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "folder/a.txt"
    for text in ("one", "two"):
        with whole_file(path) as part:
            part.write_text(text)
            assert part.parent == path.parent  # of one file system, so that it can be renamed
            assert path.exists() == (text == "two")
        assert path.read_text() == text
    assert [*path.parent.iterdir()] == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as part:
            part.write_text("half of it")
            raise OSError(28, "the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_parts_of_killed_processes_are_taken_away_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a.part", ".hidden", "last.ckpt", f".last.ckpt.{os.getpid()}.tmp")]
    for path in (*kept, tmp_path / ".last.ckpt.7.part"):
        path.touch()
    remove_parts((tmp_path, tmp_path / "none"))
    assert sorted(tmp_path.iterdir()) == sorted(kept)
