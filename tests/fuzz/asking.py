"""One wrong input, and the one line that refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from contrast.cli import main
from tests.harness.fuzz.bases import bases

__all__ = ["refused", "written"]


def written(folder: Path, base: str = "simclr", **changes: Any) -> Path:
    """A small configuration with changes, by their path with `__` for dots and without `init_args`."""
    config = yaml.safe_load(yaml.safe_dump(bases()[base]))
    for path, value in changes.items():
        holder, names = config, path.split("__")
        for name in names[:-1]:
            holder = holder[name]
            holder = holder.get("init_args", holder)
        holder[names[-1]] = value
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str, code: int = 2) -> str:
    """Run the command; the one line that it was refused in, which has these words in it."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) == code
    error = capsys.readouterr().err
    lines = [line for part in error.splitlines() for line in part.split("\r") if ": error: " in line]
    assert len(lines) == 1, error
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]
