"""Resumable data loader: the order is a pure function of (seed, epoch), and a resume continues at the exact batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Sampler

from contrast.checks import checked
from contrast.randomness import Purpose, permutation
from contrast.stop_signals import leave_signals_to_the_parent, stop_signals_blocked

__all__ = ["EpochBatches", "ResumableLoader", "WorkerLoader"]


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batch sampler of (epoch, sample index) pairs; the last partial batch is dropped.

    All ranks draw the same permutation. Rank r takes the r-th part of each global batch. N processes with batch size b
    therefore see in each step the same samples as one process with batch size N·b.

    Args:
        samples: number of samples.
        batch_size: samples per rank and step.
        seed: random seed of the order.
        rank: rank of this process.
        world: number of processes.
    """

    @checked
    def __init__(self, samples: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self.start = 0
        # Lightning calls set_epoch only on `loader.sampler` and on `loader.batch_sampler.sampler`.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples // (self.batch_size * self.world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start, self.start, epoch = self.start, 0, self.epoch
        order = permutation(self.samples, self.seed, Purpose.ORDER, epoch)
        for batch in range(start, len(self)):
            first = (batch * self.world + self.rank) * self.batch_size
            yield [(epoch, index) for index in order[first : first + self.batch_size].tolist()]


class WorkerLoader(DataLoader[Any]):
    """DataLoader whose workers leave signals to the main process, and end when the main process ends."""

    def __iter__(self) -> Any:
        own = self.worker_init_fn  # Lightning's function, which seeds the worker
        if self.num_workers and not (isinstance(own, partial) and own.func is _start_worker):
            self.worker_init_fn = partial(_start_worker, own)
        with stop_signals_blocked():
            return super().__iter__()


def _start_worker(then: Callable[[int], None] | None, worker: int) -> None:
    leave_signals_to_the_parent()
    if then is not None:
        then(worker)


class ResumableLoader(WorkerLoader):
    """DataLoader over `EpochBatches` whose position Lightning can save and restore in the middle of an epoch.

    `__iter__` is a generator for two reasons. It counts the batches handed out, not those that workers have prefetched.
    And it draws nothing before the first batch is requested: a resumed run requests the iterator before it sets the
    epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator in place of torch's iterator class
        self._handed_out = self._batches.start
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Position for a checkpoint: the epoch, and the number of batches handed out in it."""
        return {"epoch": self._batches.epoch, "batch": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at a saved position; after a complete epoch, start at the first batch."""
        whole = state["batch"] >= len(self._batches)
        self._batches.epoch = state["epoch"]
        self._batches.start = 0 if whole else state["batch"]
        self._handed_out = self._batches.start

    _handed_out = 0

    @property
    def _batches(self) -> EpochBatches:
        batches = self.batch_sampler
        assert isinstance(batches, EpochBatches)
        return batches
