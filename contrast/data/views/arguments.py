"""Checks of the constructor arguments of the views: each error names the argument, its value and what it may be."""

from __future__ import annotations

import math

from contrast.errors import InputError

__all__ = ["check_at_least", "check_between", "check_interval"]


def check_at_least(name: str, value: float, low: float) -> None:
    """Raise unless `value` is finite and not below `low`."""
    if not low <= value < math.inf:
        raise InputError(f"{name} is {value}: give a number of at least {low:g}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raise unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InputError(f"{name} is {value}: give a number from {low:g} to {high:g}")


def check_interval(name: str, value: tuple[float, float], high: float = math.inf) -> None:
    """Raise unless `value` is two finite numbers with ``0 < first <= second <= high``."""
    if len(value) != 2 or not 0 < value[0] <= value[1] <= high or math.isinf(value[1]):
        limit = "" if math.isinf(high) else f", neither above {high:g}"
        raise InputError(f"{name} is {tuple(value)}: give two positive numbers, the smaller first{limit}")
