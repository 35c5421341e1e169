"""How the loss's time and memory grow with the batch, the width, the heads, the queue and the number of processes.

    python -m benchmarks.growth --out growth.json --figure docs/images/growth.svg

Each point is a process of its own: the CPU seconds of forward and backward on one thread, the least of three, and the
peak memory beyond the rows, keys and gradients themselves. The exponent is that of the power law through the points of
the larger half, by least squares of the logarithms. Linux only: the peak is reset where a point begins.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.loss import most_memory
from contrast import in_batch_pairs, queue_pairs
from contrast.compare.machine import commit, machine
from contrast.losses import ContrastiveLoss, InfoNCE

_TAU = 0.1
AXES: dict[str, tuple[str, list[int]]] = {
    "2N": ("rows 2N of a batch, width 128", [1024, 2048, 4096, 8192, 16384, 32768]),
    "width": ("width, 2N = 4,096", [16, 32, 64, 128, 256, 512, 1024]),
    "heads": ("heads of width 32, 2N = 4,096", [1, 2, 4, 8, 16]),
    "queue": ("keys of a queue, 256 queries of width 128", [4096, 16384, 65536, 262144, 1048576]),
    "processes": ("processes that share 2N = 4,096, a process's part", [1, 2, 4, 8]),
}
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", allow_abbrev=False)
    parser.add_argument("--axes", nargs="+", choices=tuple(AXES), default=list(AXES))
    parser.add_argument("--out", type=Path, default=None, help="JSON of the points and exponents")
    parser.add_argument("--figure", type=Path, default=None, help="SVG of them")
    given = parser.parse_args()
    found = {"commit": commit(), "machine": machine(), "axes": [_axis(name) for name in given.axes]}
    print(json.dumps(found, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    if given.figure is not None:
        from benchmarks.growth_figure import draw

        draw(found["axes"], given.figure)
    return 0


def _axis(name: str) -> Row:
    title, sizes = AXES[name]
    points = [_point(name, size) for size in sizes]
    exponents = {part: exponent([(each["size"], each[part]) for each in points]) for part in ("seconds", "mebibytes")}
    return {"axis": name, "title": title, "points": points, "exponents": exponents}


def larger_half(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that a power law is fitted to, all of up to three."""
    return sorted(points)[len(points) // 2 :] if len(points) > 3 else sorted(points)


def exponent(points: list[tuple[float, float]]) -> float | None:
    """Of the power law through the larger half of the points; None where one of them is nothing."""
    half = larger_half(points)
    if any(value <= 0 for _, value in half):
        return None
    across, up = ([math.log(pair[place]) for pair in half] for place in (0, 1))
    middle, level = sum(across) / len(half), sum(up) / len(half)
    spread = sum((each - middle) ** 2 for each in across)
    return sum((each - middle) * (other - level) for each, other in zip(across, up, strict=True)) / spread


def _point(axis: str, size: int) -> Row:
    code = f"from benchmarks.growth import print_point; print_point({axis!r}, {size})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    point = {"size": size, **json.loads(done.stdout)}
    print(f"growth: {axis} {size:,}: {point['seconds']:.4g} s, {point['mebibytes']:.1f} MiB", file=sys.stderr)
    return point


def print_point(axis: str, size: int) -> None:
    """Measure one point, and print it as JSON."""
    torch.set_num_threads(1)
    _WAYS[axis](min(size, 64))()  # what the first call loads
    way = _WAYS[axis](size)
    before, seconds = _reset_peak(), []
    for _ in range(3):
        start = time.process_time()
        way()
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": min(seconds), "mebibytes": (most_memory() - before) / 1024}))


def _reset_peak() -> int:
    """KiB in use now, from which the peak is counted anew; what was freed goes back to the system first."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return most_memory()


def _batch(rows: int, width: int, heads: int = 1) -> Callable[[], None]:
    shape = (rows // 2, width) if heads == 1 else (heads, rows // 2, width)
    first, second = (normalize(torch.randn(shape), dim=-1).requires_grad_() for _ in range(2))
    index, loss = torch.arange(rows // 2), ContrastiveLoss(InfoNCE(), _TAU)
    first.grad, second.grad = torch.zeros_like(first), torch.zeros_like(second)
    return lambda: loss(in_batch_pairs(first, second, index)).loss.backward()


def _queue(keys: int) -> Callable[[], None]:
    query, key, queue = (normalize(torch.randn(rows, 128), dim=1) for rows in (256, 256, keys))
    index, of, loss = torch.arange(256), torch.arange(keys) + 256, ContrastiveLoss(InfoNCE(), _TAU)
    query.requires_grad_()
    query.grad = torch.zeros_like(query)
    return lambda: loss(queue_pairs(query, key, queue, index, of)).loss.backward()


def _part_of(processes: int) -> Callable[[], None]:
    """What one of several processes does with the rows that all of them have gathered: its queries meet all rows."""
    rows = 4096
    own, views = rows // 2 // processes, normalize(torch.randn(2, rows // 2, 128), dim=-1)
    index, loss = torch.arange(rows // 2), ContrastiveLoss(InfoNCE(), _TAU)
    first, second = (view.clone().requires_grad_() for view in views)
    first.grad, second.grad = torch.zeros_like(first), torch.zeros_like(second)

    def step() -> None:
        for query, key in _directions(first, second, own):
            loss(queue_pairs(query, key, torch.cat([second, first]), index[:own], index.repeat(2))).loss.backward()

    return step


def _directions(first: Tensor, second: Tensor, own: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield first[:own], second[:own]
    yield second[:own], first[:own]


_WAYS: dict[str, Callable[[int], Callable[[], None]]] = {
    "2N": lambda size: _batch(size, 128),
    "width": lambda size: _batch(4096, size),
    "heads": lambda size: _batch(4096, 32, size),
    "queue": _queue,
    "processes": _part_of,
}


if __name__ == "__main__":
    raise SystemExit(main())
