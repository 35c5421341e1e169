"""The machine a process runs on: memory allocator and device."""

from __future__ import annotations

import ctypes
import os
from importlib.metadata import version

import torch

from contrast.checks import checked
from contrast.errors import InputError

__all__ = ["choose_device", "keep_freed_memory", "made_with"]

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


@checked
def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is a card.

    Raises:
        InputError: for CUDA without a card.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device on this machine: give --device cpu")
    return torch.device(name)


@checked
def made_with(device: torch.device) -> dict[str, str]:
    """Device and versions, as JSON."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": hardware, "torch": torch.__version__, "contrast": version("contrast")}
