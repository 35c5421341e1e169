"""What a rule says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SEVERITIES", "Finding", "Severity"]

Severity = Literal["problem", "warning"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning")
"""The worst first: a result of a run with a problem is not worth having; one with a warning may be."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        rule: its name; the documentation has a paragraph on each.
        severity: how bad.
        seen: one sentence with the number behind it.
        mend: one sentence, what to do.
    """

    rule: str
    severity: Severity
    seen: str
    mend: str
