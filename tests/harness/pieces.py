"""Of which of the package's classes a method is made."""

from __future__ import annotations

from contrast.methods import ContrastiveMethod

__all__ = ["SLOTS", "pieces"]

SLOTS = ["model", "loss", "objective", "temperature", "transforms", "weighting", "bank", "mining", "approximate"]
"""Where the pieces of a method go, in which several processes or a resumed run could differ."""


def pieces(method: ContrastiveMethod) -> set[str]:
    """Names of the classes that a method is made of; mining and approximate search are a bank's arguments."""
    modules = list(method.modules())
    searches = [getattr(each, "settings", None) for each in modules]
    minings = [getattr(each, "mining", None) for each in modules]
    return {type(each).__name__ for each in (*modules, *searches, *minings)}
