"""What happens to memory that is freed: on a CPU a step's tensors are made and freed over and over."""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_MAPPED_FROM = 1 << 30  # bytes; a block of more goes back to the system when it is freed
_NEVER = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next step, where it is glibc; elsewhere this does nothing.

    Left alone, glibc returns every large block to the system when it is freed, and the next step's tensors pay for each
    of their pages again: up to half the time of views of 32 pixels on a CPU, and some hundredths of a network's step or
    nothing (docs/performance.md). The process then holds what it needed at most. Whoever sets one of glibc's MALLOC_
    variables is left alone.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # Windows has no such library, others have no such function
        return
    mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)
    mallopt(_TRIM_THRESHOLD, _NEVER)
