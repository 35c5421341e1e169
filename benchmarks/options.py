"""What a run has by default or can have, on the bare step of an encoder: memory that is kept, and torch.compile.

    python -m benchmarks.options --out options.json

Each time is the median of steps in a process of its own, processes in turn; the bare step is that of
`benchmarks.step`: forward, backward and SGD of two views that are already in memory.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.bare_step import BareStep
from benchmarks.command import run_part
from benchmarks.timing import Row, Times
from contrast.methods import SimCLR
from contrast.models import Backbone, Compiled, ConvNet, ResNet
from contrast.runtime import keep_freed_memory

_CASES = {  # batch, pixels, channels, steps
    "demo ConvNet, grey 8 px, batch 256": (256, 8, 1, 60),
    "demo ConvNet, 32 px, batch 256": (256, 32, 3, 10),
    "ResNet-18 width 16, 32 px, batch 128": (128, 32, 3, 10),
    "ResNet-18 width 64, 32 px, batch 32": (32, 32, 3, 6),
}
_COMPILED = "ResNet-18 width 16, 32 px, batch 128"
_WAYS = ("kept", "given back", "compiled")


def measure() -> Iterator[Row]:
    for case in _CASES:
        ways = _WAYS if case == _COMPILED else _WAYS[:2]
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for repetition in range(4):
            for way in ways if repetition % 2 else reversed(ways):
                seconds[way].append(_seconds(case, way))
        times = Times(seconds)
        yield times.faster("options", f"bare step, {case}, freed memory kept", "kept", "given back", None)
        if "compiled" in ways:
            yield times.faster("options", f"bare step, {case}, torch.compile", "compiled", "kept", None)


def _seconds(case: str, way: str) -> float:
    code = f"from benchmarks.options import print_seconds; print_seconds({case!r}, {way!r})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def print_seconds(case: str, way: str) -> None:
    """Time steps in this process, and print their median."""
    if way != "given back":
        keep_freed_memory()
    batch, pixels, channels, steps = _CASES[case]
    backbone: Backbone = (
        ConvNet((32, 64, 128), channels=channels, image_size=pixels)
        if "ConvNet" in case
        else ResNet("resnet18", base_width=16 if "width 16" in case else 64, image_size=pixels)
    )
    method = SimCLR(Compiled(backbone) if way == "compiled" else backbone, optimizer=partial(torch.optim.SGD, lr=0.01))
    first, second = (
        torch.randn(batch, pixels, pixels, channels).permute(0, 3, 1, 2) for _ in range(2)
    )  # channels_last, of one channel too
    step, seconds = BareStep(method, (first, second)), []
    step(3)
    for _ in range(steps):
        start = time.perf_counter()
        step(1)
        seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds))


if __name__ == "__main__":
    raise SystemExit(run_part("options", measure))
