"""Configurations that come with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["shipped_configuration"]


def shipped_configuration(name: str) -> Path:
    """The path of a configuration such as ``demo.yaml``: inside an installed wheel, or beside a checkout's package."""
    package = Path(str(files("contrast")))
    inside = package / "configs" / name
    return inside if inside.is_file() else package.parent / "configs" / name
