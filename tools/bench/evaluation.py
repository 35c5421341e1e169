"""kNN against its bare matrix product and lightly's; the probe's grid of strengths against fits from zero."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from contrast.evaluation import fit_linear, weighted_knn_scores
from contrast.evaluation.probe import GRID
from tools.bench.command import run_part
from tools.bench.timing import Row, Times, interleaved

QUERIES, KEYS, WIDTH, CLASSES = 10_000, 50_000, 512, 100
NEIGHBOURS = (20, 200)
TILE = 500  # queries of a tile, for the floor and for lightly, whose whole matrix of scores takes 2 GB
FLOOR = "the matrix product"


def measure() -> Iterator[Row]:
    yield from _knn()
    yield from _grid(10_000, 512, 10)


def _knn() -> Iterator[Row]:
    from lightly.utils.benchmarking import knn_predict

    generator = torch.Generator().manual_seed(0)
    query, keys = (F.normalize(torch.randn(rows, WIDTH, generator=generator)) for rows in (QUERIES, KEYS))
    labels = torch.randint(0, CLASSES, (KEYS,), generator=generator)
    bank = keys.T

    def lightly(neighbours: int) -> Tensor:
        found = [knn_predict(tile, bank, labels, CLASSES, knn_k=neighbours) for tile in query.split(TILE)]
        return torch.cat(found)[:, 0]

    def ours(neighbours: int) -> Tensor:
        return weighted_knn_scores(query, keys, labels, CLASSES, neighbours).argmax(dim=1)

    for neighbours in NEIGHBOURS:
        ways = {
            FLOOR: lambda: [tile @ bank for tile in query.split(TILE)],
            "ours": partial(ours, neighbours),
            "lightly": partial(lightly, neighbours),
        }
        times = interleaved(ways, repetitions=3)
        same = float((ways["ours"]() == ways["lightly"]()).double().mean())
        what = f"kNN of {QUERIES:,} queries on {KEYS:,} x {WIDTH}, k = {neighbours}"
        yield times.over_floor("evaluation", what, "ours", FLOOR, 1.5)
        yield times.faster("evaluation", what, "ours", "lightly", 1.0, note=f"{same:.2%} of the classes are the same")


def _grid(samples: int, width: int, classes: int) -> Iterator[Row]:
    """What the probe does now: each fit starts where that of the next stronger penalty ended."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) * torch.logspace(0, -2, width)  # of correlated columns
    labels = torch.arange(samples) % classes
    centres = torch.randn(classes, width, generator=generator)
    features = ((centres[labels] + 2 * torch.randn(samples, width, generator=generator)) @ mixing).relu()
    grid = sorted(GRID, reverse=True)

    def path() -> None:
        probe = None
        for strength in grid:
            probe = fit_linear(features, labels, classes, strength, start=probe)

    def from_zero() -> None:
        for strength in grid:
            fit_linear(features, labels, classes, strength)

    times: Times = interleaved({"each from the last": path, "each from zero": from_zero}, repetitions=3, warm_up=0)
    what = f"{len(grid)} L2 strengths on {samples:,} x {width}, {classes} classes"
    yield times.faster("evaluation", what, "each from the last", "each from zero", None, "fits are not batched")


if __name__ == "__main__":
    raise SystemExit(run_part("evaluation", measure))
