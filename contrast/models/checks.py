"""What the constructors of this package ask of their arguments."""

from __future__ import annotations

from contrast.errors import InputError

__all__ = ["require_positive"]


def require_positive(owner: str, name: str, value: int) -> int:
    """`value`, where it is at least 1.

    Raises:
        InputError: where it is not.
    """
    if value < 1:
        raise InputError(f"{owner}'s {name} {value} is not a whole number from 1 up")
    return value
