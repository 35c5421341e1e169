"""kNN against its bare matrix product and lightly's; the probe's strengths side by side against one after another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.command import run_part
from benchmarks.timing import Row, interleaved
from contrast.evaluation import fit_linear, weighted_knn_scores
from contrast.evaluation.probe import GRID, fit_grid

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
    """One fit of all strengths side by side, against one fit after another by ours and by torch's L-BFGS."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) * torch.logspace(0, -2, width)  # of correlated columns
    labels = torch.arange(samples) % classes
    centres = torch.randn(classes, width, generator=generator)
    features = ((centres[labels] + 2 * torch.randn(samples, width, generator=generator)) @ mixing).relu()
    ways = {
        "side by side": lambda: fit_grid(features, labels, classes, GRID),
        "one after another": lambda: [fit_linear(features, labels, classes, strength) for strength in GRID],
        "one after another, torch.optim.LBFGS": lambda: [_lbfgs(features, labels, classes, each) for each in GRID],
    }
    times = interleaved(ways, repetitions=5)
    chosen = [probe.logits(features).argmax(1) for probe in ways["side by side"]()]
    other = [probe.logits(features).argmax(1) for probe in ways["one after another"]()]
    same = min(float((one == two).double().mean()) for one, two in zip(chosen, other, strict=True))
    what = f"{len(GRID)} L2 strengths on {samples:,} x {width}, {classes} classes"
    for peer, target in (("one after another", 3.0), ("one after another, torch.optim.LBFGS", None)):
        yield times.faster("evaluation", what, "side by side", peer, target, f"{same:.2%} of the classes are the same")


def _lbfgs(features: Tensor, labels: Tensor, classes: int, strength: float) -> None:
    """The fit that we had before."""
    inputs = (features - features.mean(0)) / features.std(0, correction=0)
    weight, bias = torch.zeros(classes, inputs.shape[1]).requires_grad_(), torch.zeros(classes).requires_grad_()
    fit = torch.optim.LBFGS([weight, bias], 1, 1000, None, 1e-5, 1e-9, 20, "strong_wolfe")

    def closure() -> float:
        fit.zero_grad()
        loss = F.cross_entropy(F.linear(inputs, weight, bias), labels) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss.item()

    fit.step(closure)


if __name__ == "__main__":
    raise SystemExit(run_part("evaluation", measure))
