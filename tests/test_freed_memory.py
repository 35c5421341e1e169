"""Pages of freed memory are kept for the next step."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_FAULTS = r"""
import resource, sys
import torch
from contrast.runtime import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.ones(1 << 24)
first = faults()
keep_freed_memory()
faults()  # until there is room for all that is there at one time
print(first, faults())
"""


def _faults(**environment: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_a_step_s_memory_is_there_for_the_next_one() -> None:
    before, after = _faults()
    assert before > 20 * (1 << 26) / os.sysconf("SC_PAGE_SIZE") / 1024  # at least once a huge page and block
    assert after < before / 10


def test_who_tells_glibc_otherwise_is_left_alone() -> None:
    before, after = _faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert after > before / 2
