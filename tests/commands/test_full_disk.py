"""A full disk, whatever is being written when it is: one line, the last good checkpoint whole, and on it goes."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from contrast.callbacks import gallery, metrics, pair_history, status
from contrast.cli import main
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from tests.commands.running import pretrain
from tests.harness.exact.differences import differences

ROOT = Path(__file__).parents[2]
OFTEN = ["--checkpoints.every_n_steps", "1", "--pairs.gallery", "2"]
# Who writes, at which call the disk is full, and which step is saved then.
WRITES = {
    "a row": (metrics, "append_row", 4, 1),
    "pairs": (pair_history, "_save", 3, 5),
    "a picture": (gallery.Gallery, "_save", 40, 2),
    "the status": (status, "write_status", 5, 3),
    "the table": (metrics, "write_table", 1, 6),
}


@pytest.fixture(autouse=True)
def _with_room_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("full") / "whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        assert pretrain(folder.path, *OFTEN) == 0
    return folder


def full_from(call: int, write: Callable[..., Any]) -> Callable[..., Any]:
    """From this call on no file may be larger than ten bytes."""
    calls = 0

    def written(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
        return write(*arguments, **more)

    return written


@pytest.mark.parametrize("what", WRITES)
def test_the_run_stops_in_one_line_and_goes_on(
    what: str, whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, call, saved = WRITES[what]
    ticks = count(step=60)
    folder = RunFolder(tmp_path / "run")
    monkeypatch.setattr(status.time, "monotonic", lambda: next(ticks))  # written with every step
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, full_from(call, getattr(owner, name)))
        code = pretrain(folder.path, *OFTEN)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert code == 1, line
    assert f"{folder.path} could not be written at step" in line
    assert f"the last good checkpoint is {folder.last_checkpoint}" in line
    assert read_checkpoint(folder.last_checkpoint)["global_step"] == saved
    assert not [*folder.path.rglob("*.part")]
    assert main(["pretrain", "--resume", str(folder.path)]) == 0
    assert differences(whole.path, folder.path) == []
