"""Counter-based random numbers: every number is a pure function of its keys.

No generator is passed along and none is seeded. A number depends only on (seed, epoch or step, purpose, view, sample
index, position in the draw). A run therefore does not change with the number of workers, the composition of a batch,
the number of processes or a restart. The mixing function is splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Purpose", "permutation", "seed_from", "uniform"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


class Purpose(IntEnum):
    """Purpose of a random draw, one number per purpose.

    The values are part of a run's identity: never renumber them.
    """

    ORDER = 1
    VIEW = 2
    BATCH_SHUFFLE = 3
    STEP = 4
    QUEUE = 5
    SPLIT = 6
    PROBE = 7
    HARD_NEGATIVE_MIXING = 8
    POSITIVE_EXTRAPOLATION = 9
    NEGATIVE_INTERPOLATION = 10
    BANK_MINING = 11
    BANK_LISTS = 12
    OBSERVED_ROWS = 13
    LOOKED_AT = 14


def seed_from(*keys: int) -> int:
    """A 63-bit seed that is a pure function of `keys`, for generators that need a seed."""
    return _mix_keys(keys) >> 1


def permutation(count: int, *keys: int) -> Int[Tensor, " count"]:
    """A permutation of ``range(count)`` that is a pure function of `keys`."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_from(*keys)))


def uniform(keys: tuple[int, ...], index: Int[Tensor, " b"], count: int) -> Float[Tensor, "b {count}"]:
    """Draw `count` uniform float32 numbers in [0, 1) for every sample.

    Each number is a pure function of (keys, sample index, column).

    Args:
        keys: what the draw is for, for example ``(seed, epoch, Purpose.VIEW, view)``.
        index: sample indices, (b,), on any device; the draw is made on that device.
        count: the number of draws per sample.

    Returns:
        The numbers, (b, count).

    Example:
        >>> a = uniform((0, 3, Purpose.VIEW, 1), torch.tensor([7, 8]), 4)
        >>> b = uniform((0, 3, Purpose.VIEW, 1), torch.tensor([8]), 4)
        >>> bool((a[1:] == b).all())
        True
    """
    start = _mix_keys(keys)
    return _by_numpy(start, index, count) if index.device.type == "cpu" else _by_torch(start, index, count)


def _by_numpy(start: int, index: Tensor, count: int) -> Tensor:
    # For a single sample, the usual request of a data worker, numpy takes a quarter of torch's time.
    golden = np.uint64(_GOLDEN)
    rows = _mix(index.numpy().astype(np.uint64) * golden ^ np.uint64(start))
    bits = _mix(rows[:, None] + np.arange(1, count + 1, dtype=np.uint64) * golden) >> np.uint64(40)
    return torch.from_numpy(bits.astype(np.float32) * np.float32(2.0**-24))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of splitmix64."""
    state = (state ^ state >> np.uint64(30)) * np.uint64(_FIRST)
    state = (state ^ state >> np.uint64(27)) * np.uint64(_SECOND)
    return state ^ state >> np.uint64(31)


def _by_torch(start: int, index: Tensor, count: int) -> Tensor:
    rows = _mix_signed(index.to(torch.int64) * _signed(_GOLDEN) ^ _signed(start))
    columns = torch.arange(1, count + 1, device=index.device) * _signed(_GOLDEN)
    bits = _mix_signed(rows[:, None] + columns) >> 40 & 0xFFFFFF
    return bits.to(torch.float32) * 2.0**-24


def _mix_keys(keys: tuple[int, ...]) -> int:
    state = _GOLDEN
    for key in keys:
        state = (state ^ (int(key) & _MASK)) * _FIRST & _MASK
        state = (state ^ state >> 27) * _SECOND & _MASK
        state = state ^ state >> 31
    return state


def _mix_signed(state: Tensor) -> Tensor:
    """Finaliser of splitmix64 on int64, which wraps in the same way as uint64."""
    state = (state ^ _shift(state, 30)) * _signed(_FIRST)
    state = (state ^ _shift(state, 27)) * _signed(_SECOND)
    return state ^ _shift(state, 31)


def _shift(state: Tensor, places: int) -> Tensor:
    """Logical right shift of int64."""
    return (state >> places) & ((1 << (64 - places)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
