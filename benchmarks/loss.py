"""Loss, forward and backward: against peers, the dense one-liner, and the matrix products that it cannot do without.

    python -m benchmarks.loss --out loss.json

Everything starts from two unit-row tensors of width 128 and ends with their gradient. The floor of a batch is what the
dense form cannot do without: three products of (2N, 2N) with (2N, 128) and three exponentials, in blocks. Memory is
the peak of a process of its own beyond what it had before.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.command import run_part
from benchmarks.timing import Row, interleaved
from contrast import in_batch_pairs, queue_pairs
from contrast.losses import DCL, ContrastiveLoss, InfoNCE, LearnedTemperature, Objective

WIDTH, TAU = 128, 0.1
Way = Callable[[], object]


def main() -> int:
    return run_part("loss", measure)


def measure() -> Iterator[Row]:
    yield from _batch(8192, repetitions=9, targets=(4.0, 5.0), floor=1.3)
    yield from _batch(2048, repetitions=21, targets=(None, None), floor=None)
    yield from _small(512)
    yield _metric_learning(1024)
    yield from _queue(256, 65536)
    yield from _memory(16384)


def _batch(
    rows: int, repetitions: int, targets: tuple[float | None, float | None], floor: float | None
) -> Iterator[Row]:
    from lightly.loss import DCLLoss, NTXentLoss

    z = _rows(rows)
    ways = {
        "InfoNCE": _ours(InfoNCE(), z),
        "DCL": _ours(DCL(), z),
        "InfoNCE, learned temperature": _ours(InfoNCE(), z, LearnedTemperature(TAU)),
        "three products and exponentials": _floor(z),
        "lightly's NTXentLoss": _peer(NTXentLoss(temperature=TAU), z),
        "lightly's DCLLoss": _peer(DCLLoss(temperature=TAU), z),
        "the dense one-liner": lambda: _dense(z),
    }
    times = interleaved(ways, repetitions)
    size = f"2N = {rows:,} x {WIDTH}"
    yield times.faster("loss", f"InfoNCE, {size}", "InfoNCE", "lightly's NTXentLoss", targets[0])
    yield times.faster("loss", f"DCL, {size}", "DCL", "lightly's DCLLoss", targets[1])
    yield times.faster("loss", f"InfoNCE, {size}", "InfoNCE", "the dense one-liner", None)
    yield times.over_floor("loss", f"InfoNCE, {size}", "InfoNCE", "three products and exponentials", floor)
    yield times.over_floor("loss", f"DCL, {size}", "DCL", "three products and exponentials", floor)
    learned = "InfoNCE, learned temperature"
    yield times.over_floor("loss", f"{learned}, {size}", learned, "three products and exponentials", floor)


def _small(rows: int) -> Iterator[Row]:
    z = _rows(rows)
    ways: dict[str, Way] = {"InfoNCE": _ours(InfoNCE(), z), "the dense one-liner": lambda: _dense(z)}
    times = interleaved(ways, 401, warm_up=20)
    yield times.faster("loss", f"InfoNCE, 2N = {rows:,} x {WIDTH}", "InfoNCE", "the dense one-liner", 1.0)


def _metric_learning(rows: int) -> Row:
    """At a size that fits: the peer holds every pair of a positive and a negative, 550 GB of them at 2N = 8,192."""
    from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

    z, metric = _rows(rows), SelfSupervisedLoss(NTXentLoss(temperature=TAU))
    peer = "pytorch-metric-learning's NTXentLoss"
    times = interleaved({"InfoNCE": _ours(InfoNCE(), z), peer: _peer(metric, z)}, 5)
    note = "the peer holds rows x rows² numbers"
    return times.faster("loss", f"InfoNCE, 2N = {rows:,} x {WIDTH}", "InfoNCE", peer, None, note)


def _queue(rows: int, keys: int) -> Iterator[Row]:
    query, key, queue = (normalize(torch.randn(count, WIDTH), dim=1) for count in (rows, rows, keys))
    index, of, loss = torch.arange(rows), torch.arange(keys) + rows, ContrastiveLoss(InfoNCE(), TAU)

    def ours() -> None:
        leaf = query.clone().requires_grad_()
        loss(queue_pairs(leaf, key, queue, index, of)).loss.backward()

    def dense() -> None:
        leaf = query.clone().requires_grad_()
        logits = torch.cat([(leaf * key).sum(1, keepdim=True), leaf @ queue.T], dim=1) / TAU
        cross_entropy(logits, torch.zeros(rows, dtype=torch.long)).backward()

    def floor() -> None:
        score = query @ queue.T
        score.exp_() @ queue

    times = interleaved({"ours": ours, "the dense one-liner": dense, "two products and an exponential": floor}, 21)
    what = f"InfoNCE, {rows} queries x queue of {keys:,} x {WIDTH}"
    yield times.faster("loss", what, "ours", "the dense one-liner", 1.0)
    yield times.over_floor("loss", what, "ours", "two products and an exponential", 1.3)


def _memory(rows: int) -> Iterator[Row]:
    peaks = {
        name: _peak(name, rows) for name in ("contrast", "lightly.loss:NTXentLoss", "lightly.loss:DCLLoss", "dense")
    }
    ours, what = peaks["contrast"], f"peak memory, InfoNCE, 2N = {rows:,} x {WIDTH}"
    ratio = ours / 150
    yield Row("loss", what, "150 MiB", ratio, ratio, ratio, "lower", 1.0, ours, 150.0, "MiB")
    for name, peer in (("lightly.loss:NTXentLoss", "lightly's NTXentLoss"), ("dense", "the dense one-liner")):
        ratio = peaks[name] / ours
        yield Row("loss", what, peer, ratio, ratio, ratio, "higher", None, ours, peaks[name], "MiB")


def _peak(name: str, rows: int) -> float:
    """MiB that a loss takes at most, beyond what its process had before, in a process of its own."""
    code = f"from benchmarks.loss import print_peak; print_peak({name!r}, {rows})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def print_peak(name: str, rows: int) -> None:
    """Run a loss once, forward and backward, and print by how many MiB the process's peak grew."""
    import importlib

    way: Callable[[Tensor], object]
    if name == "contrast":
        way = lambda z: _ours(InfoNCE(), z)()  # noqa: E731  # three ways side by side
    elif name == "dense":
        way = _dense
    else:
        module, _, attribute = name.partition(":")
        loss = getattr(importlib.import_module(module), attribute)(temperature=TAU)
        way = lambda z: _peer(loss, z)()  # noqa: E731  # as above
    way(_rows(64))
    z = _rows(rows)
    before = most_memory()
    way(z)
    print((most_memory() - before) / 1024)


def most_memory() -> int:
    """Most memory so far, KiB; ``ru_maxrss`` would begin with that of the process that started this one."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


def _rows(count: int) -> Tensor:
    return normalize(torch.randn(2, count // 2, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1)


def _ours(objective: Objective, z: Tensor, temperature: float | LearnedTemperature = TAU) -> Way:
    loss = ContrastiveLoss(objective, temperature)

    def way() -> None:
        first, second = (view.clone().requires_grad_() for view in z)
        loss(in_batch_pairs(first, second, torch.arange(len(first)))).loss.backward()

    return way


def _peer(loss: Callable[[Tensor, Tensor], Tensor], z: Tensor) -> Way:
    def way() -> None:
        first, second = (view.clone().requires_grad_() for view in z)
        loss(first, second).backward()

    return way


def _dense(z: Tensor) -> None:
    first, second = (view.clone().requires_grad_() for view in z)
    both = torch.cat([first, second])
    count = len(first)
    logits = (both @ both.T / TAU).masked_fill(torch.eye(2 * count, dtype=torch.bool), -torch.inf)
    cross_entropy(logits, torch.arange(2 * count).roll(count)).backward()


def _floor(z: Tensor) -> Way:
    both = z.flatten(0, 1)
    rows = 512  # the fastest of 64 to 4,096 tried

    def floor() -> None:
        gradient, (block, spent) = torch.zeros_like(both), both.new_empty(2, rows, len(both))
        for start in range(0, len(both), rows):
            part = both[start : start + rows]
            torch.mm(part, both.T, out=block)
            for _ in range(3):
                torch.exp(block, out=spent)  # of the same logits: exponentials of exponentials would overflow
            torch.mm(block, both, out=gradient[start : start + rows])
            gradient.addmm_(block.T, part)

    return floor


if __name__ == "__main__":
    raise SystemExit(main())
