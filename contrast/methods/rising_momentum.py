"""The momentum of a target network over a run: it rises to 1."""

from __future__ import annotations

import math

from contrast.errors import InputError

__all__ = ["check_momentum", "rising_momentum"]


def rising_momentum(start: float, progress: float) -> float:
    """``m = 1 - (1 - m₀) ½ (1 + cos π p)``: from m₀ at the start to 1 at the end, where the target stands still.

    Source: BYOL, Grill et al., NeurIPS 2020, arXiv 2006.07733, section 3.3; MoCo v3 does the same.

    Args:
        start: m₀, within [0, 1].
        progress: p, the share of the run that is done, within [0, 1].

    Example:
        >>> [round(rising_momentum(0.99, progress), 4) for progress in (0, 0.5, 1)]
        [0.99, 0.995, 1.0]
    """
    return 1 - (1 - start) * 0.5 * (1 + math.cos(math.pi * progress))


def check_momentum(owner: str, momentum: float) -> float:
    """`momentum`, where it is within [0, 1].

    Raises:
        InputError: where it is not.
    """
    if not 0 <= momentum <= 1:
        raise InputError(f"{owner}'s momentum {momentum:g} is outside [0, 1]: it is the share that the target keeps")
    return momentum
