"""A whole run of this package, in this process, that hands over to other ways every few steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.profilers import Profiler

from benchmarks.timing import Times
from contrast.commands.building import build, resolve, run_parser
from contrast.commands.completing import complete
from contrast.commands.run import make_trainer
from contrast.methods import ContrastiveMethod
from contrast.run_folder import RunFolder

__all__ = ["InTurn", "Run", "Way"]


@dataclass(frozen=True)
class Way:
    """Another way to make steps.

    Attributes:
        steps: makes so many.
        workers: processes of its own; they are halted while others are timed.
    """

    steps: Callable[[int], object]
    workers: Callable[[], list[int]] = list


class Run:
    """A run as `contrast pretrain` makes it, with all its callbacks, built and not yet begun.

    Args:
        config: as of a file.
        folder: where it writes.
        profiler: Lightning's, if any.
    """

    def __init__(self, config: dict[str, Any], folder: Path, profiler: Profiler | None = None) -> None:
        parser = run_parser()
        typed, self._config = resolve(parser, complete(config))
        self._built = build(parser, typed)
        self._built.trainer.profiler = profiler
        self._folder = RunFolder(folder)
        self._folder.checkpoints.mkdir(parents=True)

    @property
    def model(self) -> ContrastiveMethod:
        """The method, with first weights."""
        method: ContrastiveMethod = self._built.model
        return method

    def train(self, callback: lightning.Callback) -> None:
        """Train until the callback says that it is enough."""
        self._built.trainer.callbacks = [callback]
        trainer = make_trainer(self._built, self._config, self._folder)
        # Where stable-pretraining is installed, every trainer has its callbacks.
        trainer.callbacks = [each for each in trainer.callbacks if "stable_pretraining" not in type(each).__module__]
        trainer.fit(self._built.model, datamodule=self._built.data)


class InTurn(lightning.Callback):
    """Times a run's steps in blocks, from the end of a batch to the end of a later one, and other ways in between.

    So whatever a step has to do is within a block: loader, views, network, loss, bank, callbacks, Lightning's loop. The
    first round is warm-up and is not kept.

    Args:
        others: ways by name.
        steps: of a block.
        rounds: how many blocks of each are kept.
    """

    def __init__(self, others: Mapping[str, Way], steps: int, rounds: int) -> None:
        self._others, self._steps, self._rounds = dict(others), steps, rounds
        self._seconds: dict[str, list[float]] = {name: [] for name in ("run", *others)}
        self._own_workers: list[int] = []
        self._start = 0.0

    @property
    def times(self) -> Times:
        """Seconds of a step, block by block."""
        return Times({name: seconds[1:] for name, seconds in self._seconds.items()})

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 1:
            self._own_workers = [each.pid for each in multiprocessing.active_children() if each.pid is not None]
            self._start = time.perf_counter()
        if trainer.global_step % self._steps != 1 or trainer.global_step == 1:
            return
        self._seconds["run"].append((time.perf_counter() - self._start) / self._steps)
        _send(self._own_workers, signal.SIGSTOP)
        names = list(self._others)
        for name in names if len(self._seconds["run"]) % 2 else reversed(names):
            self._time(name, self._others[name])
        _send(self._own_workers, signal.SIGCONT)
        trainer.should_stop = len(self._seconds["run"]) > self._rounds
        if trainer.should_stop:
            for way in self._others.values():
                _send(way.workers(), signal.SIGCONT)  # a halted one would be waited for without end
        self._start = time.perf_counter()

    def _time(self, name: str, way: Way) -> None:
        _send(way.workers(), signal.SIGCONT)
        start = time.perf_counter()
        way.steps(self._steps)
        self._seconds[name].append((time.perf_counter() - start) / self._steps)
        _send(way.workers(), signal.SIGSTOP)


def _send(workers: list[int], number: signal.Signals) -> None:
    for worker in workers:
        os.kill(worker, number)
