"""What numbers were made with: the commit and the machine."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

__all__ = ["commit", "machine"]

_ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """The checkout's commit, with ``-dirty`` where files differ from it; "unknown" outside a repository."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, str | int]:
    """The processor, the threads that this process computes with, the device and the versions."""
    import torch

    from contrast.evaluation import choose_device, made_with

    return {"processor": _processor(), "threads": torch.get_num_threads(), **made_with(choose_device("auto"))}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
