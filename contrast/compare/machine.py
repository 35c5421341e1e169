"""What numbers were measured with: the commit or version of this package, and the machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["commit", "machine"]

_ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """The commit of the checkout that this package is run from, with ``-dirty`` if files differ from the commit.

    Returns:
        The commit; "version 0.1.0" or the like for an installed package; "unknown" if neither is known.
    """
    # Without this test, git would find the repository that an installed package's environment happens to be in.
    if (_ROOT / ".git").exists():
        command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
        try:
            return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"
    try:
        return f"version {version('contrast')}"
    except PackageNotFoundError:
        return "unknown"


def machine() -> dict[str, str | int]:
    """Processor, number of threads of this process, device, and versions of the libraries."""
    import torch

    from contrast.evaluation import choose_device, made_with

    return {"processor": _processor(), "threads": torch.get_num_threads(), **made_with(choose_device("auto"))}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
