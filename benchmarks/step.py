"""A training step: whole runs against the encoder alone, and against the SimCLR of lightly and stable-pretraining.

Images are random pixels, two views a sample. A run is what `contrast pretrain` makes, with every callback at its
default, and is planned so long that the recorder's row comes once a block: in a run of fewer steps than a hundred
blocks it comes oftener, in a longer one more seldom. All ways share the process, and with it that a run of ours keeps
freed memory: peers' own programs would be slower.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bare_step import BareStep
from benchmarks.command import run_part
from benchmarks.plain_loop import PlainLoop
from benchmarks.timing import Row, Times
from benchmarks.whole_run import InTurn, Run, Way
from contrast.data import Standardisation
from contrast.models import Backbone

_IMAGES = 20_000
_LIGHTLY, _LAID_OUT, _STABLE = "lightly, as documented", "lightly, channels_last", "stable-pretraining"
_ROWS = 100  # of the recorder in a run, at its default


@dataclass(frozen=True)
class _Case:
    """An encoder and its data.

    Attributes:
        floor: the share of the floor's speed that is to be reached.
        peers: targets against peers as documented, and against lightly in channels_last; None without that comparison.
    """

    name: str
    backbone: dict[str, Any]
    pixels: int
    channels: int
    batch: int
    steps: int
    rounds: int
    floor: float | None
    peers: tuple[float | None, float | None] | None = None


def _resnet(width: int) -> dict[str, Any]:
    return {"class_path": "ResNet", "init_args": {"name": "resnet18", "base_width": width}}


_DEMO = {"class_path": "ConvNet", "init_args": {"widths": [32, 64, 128]}}
_CASES = (
    _Case("demo ConvNet, grey 28 px, batch 256", _DEMO, 28, 1, 256, 20, 8, 0.80),
    _Case("demo ConvNet, 32 px, batch 256", _DEMO, 32, 3, 256, 10, 6, None, (3.0, 3.0)),
    _Case("ResNet-18 width 16, 32 px, batch 128", _resnet(16), 32, 3, 128, 10, 6, 0.95, (1.5, 1.2)),
    _Case("ResNet-18 width 64, 32 px, batch 32", _resnet(64), 32, 3, 32, 5, 6, 0.95, (1.0, 1.0)),
)


def measure() -> Iterator[Row]:
    for case in _CASES:
        for method in ("SimCLR", "MoCo"):
            yield from _rows(case, method)


def _rows(case: _Case, method: str) -> Iterator[Row]:
    times = _times(case, method)
    what = f"{method}, {case.name}"
    yield times.faster("step", what, "run", "floor", case.floor, note="share of the floor's speed; a step of two views")
    if case.peers is not None:
        plain, channels_last = case.peers
        targets = {_LIGHTLY: plain, _LAID_OUT: channels_last, _STABLE: plain}
        for peer, target in targets.items():
            if peer in times.seconds:
                yield times.faster("step", what, "run", peer, target, note="2 workers")


def _times(case: _Case, method: str) -> Times:
    with tempfile.TemporaryDirectory() as scratch:
        shape = (_IMAGES, case.pixels, case.pixels, case.channels)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        np.save(f"{scratch}/images.npy", images)
        run = Run(_config(case, method, f"{scratch}/images.npy"), Path(scratch) / "run")
        floor = BareStep(run.model, _views(case))
        ways = {"floor": Way(floor)}
        if method == "SimCLR" and case.peers is not None:
            ways |= {name: Way(each, each.workers) for name, each in _peers(run.model.backbone, images, case.batch)}
        turns = InTurn(ways, case.steps, case.rounds)
        run.train(turns)
        return turns.times


def _peers(backbone: Backbone, images: np.ndarray[Any, Any], batch: int) -> Iterator[tuple[str, PlainLoop]]:
    """Those that this environment has, each with a copy of the encoder."""
    if find_spec("lightly") is not None:
        from benchmarks.lightly_run import lightly_run

        yield _LIGHTLY, lightly_run(copy.deepcopy(backbone), images, batch, channels_last=False)
        yield _LAID_OUT, lightly_run(copy.deepcopy(backbone), images, batch, channels_last=True)
    if find_spec("stable_pretraining") is not None:
        from benchmarks.stable_pretraining_run import stable_pretraining_run

        yield _STABLE, stable_pretraining_run(copy.deepcopy(backbone), images, batch)


def _views(case: _Case) -> tuple[Tensor, Tensor]:
    """Standardised, which also lays them out as a run does."""
    shape = (case.batch, case.channels, case.pixels, case.pixels)
    standardisation = Standardisation((0.0,) * case.channels, (1.0,) * case.channels)
    return standardisation(torch.randn(shape)), standardisation(torch.randn(shape))


def _config(case: _Case, method: str, images: str) -> dict[str, Any]:
    bank = {"bank": {"class_path": "KeyQueue", "init_args": {"size": 4096}}} if method == "MoCo" else {}
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01, "momentum": 0.9, "weight_decay": 1.0e-4}}
    views = {"size": case.pixels, "jitter_strength": 0.5, "blur": 0.0}
    return {
        "model": {"class_path": method, "init_args": {"backbone": case.backbone, "optimizer": sgd, **bank}},
        "data": {
            "class_path": "ImageData",
            "init_args": {
                "train": {"class_path": "ArrayImages", "init_args": {"path": images}},
                "views": {"class_path": "SimCLRViews", "init_args": views},
                "batch_size": case.batch,
                "workers": 0,  # the set is one array in memory
                "channels": case.channels,
            },
        },
        "trainer": {"max_epochs": 1000, "max_steps": _ROWS * case.steps, "accelerator": "cpu"},
    }


if __name__ == "__main__":
    raise SystemExit(run_part("step", measure))
