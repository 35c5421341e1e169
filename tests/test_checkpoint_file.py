"""Checkpoint files: a checksum that fits or a refusal, the one before kept, and nothing that a file holds is run."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from contrast.errors import InputError
from contrast.runs.checkpoint import FORMAT, read_checkpoint, write_checkpoint

CONTENT: dict[str, Any] = {
    "state_dict": {"weight": torch.arange(1000.0)},
    "epoch": 1,
    "global_step": 7,
    "contrast": {"format": FORMAT, "config": {"seed_everything": 0}},
}


def at_step(step: int, **more: Any) -> dict[str, Any]:
    return {**CONTENT, "global_step": step, **more}


def test_what_is_written_is_read_and_by_torch_alone_too(tmp_path: Path) -> None:
    path = tmp_path / "folder/last.ckpt"
    write_checkpoint(CONTENT, path)
    for content in (read_checkpoint(path), torch.load(path, weights_only=True)):
        assert content["global_step"] == 7
        assert torch.equal(content["state_dict"]["weight"], torch.arange(1000.0))
    assert zipfile.ZipFile(path).comment.startswith(b"sha256:")
    assert [*path.parent.iterdir()] == [path]


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    whole = path.read_bytes()
    step = max(1, len(whole) // 150)
    for place in [*range(0, len(whole), step), len(whole) - 1, len(whole) - 66, len(whole) - 73]:
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"last\.ckpt.*damaged"):
            read_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.5])
def test_a_file_of_another_length_is_noticed(share: float, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    whole = path.read_bytes()
    path.write_bytes((whole + whole)[: int(share * len(whole))])
    with pytest.raises(InputError, match="damaged"):
        read_checkpoint(path)


def test_one_that_lost_its_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(CONTENT, path)
    with pytest.raises(InputError, match="its checksum is missing"):
        read_checkpoint(path)


def test_the_format_before_is_read_and_a_later_one_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({**CONTENT, "contrast": {"format": 1, "config": {}}}, path)
    assert read_checkpoint(path)["global_step"] == 7
    for version in (0, FORMAT + 1, "2", None):
        write_checkpoint({**CONTENT, "contrast": {"format": version, "config": {}}}, path)
        with pytest.raises(InputError, match=f"reads 1 to {FORMAT}: use the version that wrote it"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"state_dict": {}},
        {**CONTENT, "contrast": 3},
        at_step(1, state_dict=None),
        {**CONTENT, "global_step": "many"},
        {**CONTENT, "contrast": {"format": FORMAT}},
    ],
    ids=["a list", "no contrast", "a number", "no weights", "no step", "no configuration"],
)
def test_other_content_is_refused_in_one_line(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    if isinstance(content, dict):
        write_checkpoint(content, path)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=r"damaged|not written by contrast"):
        read_checkpoint(path)


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "last.ckpt"
    write_checkpoint({**CONTENT, "more": Trap()}, path)
    with pytest.raises(InputError, match="other than tensors and plain data"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_the_one_before_is_kept_as_a_file_of_its_own(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for step in (1, 2, 3):
        write_checkpoint(at_step(step), last, previous)
    assert [read_checkpoint(each)["global_step"] for each in (last, previous)] == [3, 2]
    last.write_bytes(b"damage")
    assert read_checkpoint(previous)["global_step"] == 2


def test_at_every_moment_one_of_the_two_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    seen: list[int] = []

    def look(step: Any) -> Any:
        def before(*arguments: Any) -> Any:
            seen.append(read_checkpoint(last)["global_step"])
            return step(*arguments)

        return before

    write_checkpoint(at_step(1), last, previous)
    for name in ("link", "replace", "fsync"):
        monkeypatch.setattr(os, name, look(getattr(os, name)))
    write_checkpoint(at_step(2), last, previous)
    assert seen == [1, 1, 1, 1, 2]  # the last one flushes the folder, when all is in place


def test_where_there_are_no_links_the_one_before_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for step in (1, 2, 3):
        write_checkpoint(at_step(step), last, previous)
    assert [read_checkpoint(each)["global_step"] for each in (last, previous)] == [3, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_the_new_name_is_flushed_to_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that loses power may come back with the old one, after the run has said that all is saved."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(file: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
        sync(file)

    def replaced(one: Any, other: Any) -> None:
        done.append("in place")
        replace(one, other)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_checkpoint(CONTENT, tmp_path / "last.ckpt")
    assert done == ["file", "in place", "folder"]
