"""Process settings: memory allocator and device."""

from __future__ import annotations

import ctypes
import os
from importlib.metadata import version

import torch

from contrast.checks import checked
from contrast.errors import InputError

__all__ = ["choose_device", "keep_freed_memory", "made_with"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from <malloc.h>
_MAPPED_FROM = 1 << 30  # bytes; a larger block goes back to the system when it is freed
_NEVER = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep freed memory for the next step; no effect with other C libraries.

    By default, glibc returns every large block to the system when it is freed. The tensors of the next step then have
    to map all of their pages again. This costs up to half of the time of views of 32 pixels on a CPU, and some
    hundredths of a network's step or nothing (docs/performance.md). With this setting, the process keeps its peak
    memory. If the user has set one of glibc's MALLOC_ variables, nothing is changed.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not on Windows, and not in every C library
        return
    mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)
    mallopt(_TRIM_THRESHOLD, _NEVER)


@checked
def choose_device(name: str) -> torch.device:
    """The torch device with this name; "auto" is CUDA if a GPU is available, and the CPU otherwise.

    Raises:
        InputError: for CUDA without a GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device on this machine: give --device cpu")
    return torch.device(name)


@checked
def made_with(device: torch.device) -> dict[str, str]:
    """Device name and versions of torch and contrast, for JSON records."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": hardware, "torch": torch.__version__, "contrast": version("contrast")}
