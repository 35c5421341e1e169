"""Loops over pixels for a CPU: compiled by numba when first called, and shared out among threads.

A step of a view in torch is some twenty operations, each of which goes through memory; compiled, it is one loop that
the processor does several pixels at a time, and an image stays in the cache from the crop to the last step.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import torch

__all__ = ["PIECE", "by_pieces", "compiled"]

PIECE = 2**15
"""Pixels of images that a thread takes at a time: few enough to stay in its cache from step to step."""

# Sums may be reordered and products fused with sums, which vector instructions need. NaN and infinity keep their sense.
_FLOATS = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for the types it is called with, to run without Python's lock; kept on the disk for the next process."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _FLOATS, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        made = numba.njit(**options)(function)
    return made  # type: ignore[no-any-return]  # numba has no types


def by_pieces(count: int, rows: int, work: Callable[[slice], None]) -> None:
    """``work(piece)`` for every `rows` of `count` rows, on as many threads as torch takes for an operation.

    Each thread, this one too, takes the next piece when it is done with one: where torch's own threads still spin after
    an operation, another one of these does the work.
    """
    pieces = iter([slice(first, min(first + rows, count)) for first in range(0, count, rows)])

    def take() -> None:
        for piece in pieces:
            work(piece)

    helpers = min(torch.get_num_threads(), -(-count // rows)) - 1
    taken = [_threads(os.getpid(), helpers).submit(take) for _ in range(helpers)]
    take()
    for helper in taken:
        if not helper.cancel():  # it has begun
            helper.result()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Of this process: one that was forked from another has none of its threads."""
    return ThreadPoolExecutor(count)
