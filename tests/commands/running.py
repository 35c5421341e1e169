"""Small runs for tests: the demo's data and net, a few steps."""

from __future__ import annotations

from pathlib import Path

from contrast.cli import main

SMALL = ["--config", "configs/demo.yaml", "--config", "tests/commands/small.yaml"]


def pretrain(folder: Path, *arguments: object, small: bool = True) -> int:
    """`contrast pretrain` in this process, into `folder`; its exit code."""
    return main(["pretrain", *(SMALL if small else []), "--run", str(folder), *map(str, arguments)])
