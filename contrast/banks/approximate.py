"""Approximate nearest-neighbour search (IVF, HNSW) over a memory bank whose keys change at every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.banks.key_store import KeyStore
from contrast.checks import checked
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform
from contrast.search.approximate import ApproximateIndex, InvertedLists, NeighbourGraph, train_centroids

__all__ = ["HNSW", "IVF", "Approximate", "ApproximateSearch"]

_SAMPLED = 64  # training keys per inverted list for k-means
_NONE = -1


class Approximate(ABC):
    """Settings of an approximate search over a large memory bank; base class of `IVF` and `HNSW`.

    Every `every_n_steps` steps a new index is built in a background thread. Training continues meanwhile. The new index
    is used from the next multiple of `every_n_steps` on. A search always sees the current keys. Search is exact until
    the first index is ready, and always on CUDA.

    Attributes:
        above: number of filled rows up to which search is exact.
        every_n_steps: training steps between two builds.
        effort: how much of the index a query visits.
        sampled: number of keys that are drawn by step and seed as training data for a build; 0 for none.
        of_parts: whether sharded processes find the same keys as one process with all keys.
        copies: whether the index is built from a copy of the keys. Needed where a key that changes during the build
            would change the index.
    """

    above: int
    every_n_steps: int
    effort: int
    sampled: int = 0
    of_parts: bool = False
    copies: bool = False

    @abstractmethod
    def build(self, keys: Float[Tensor, "k d"], sample: Float[Tensor, "n d"], seed: int) -> ApproximateIndex:
        """Build an index of the keys.

        Args:
            keys: rows to index, (k, d).
            sample: training keys, (n, d); n is `sampled`.
            seed: seed of random choices in the build.
        """

    @abstractmethod
    def restore(self, keys: Float[Tensor, "k d"], state: Tensor) -> ApproximateIndex:
        """Restore the index that has this state, with the current keys.

        The caller replaces the keys that were written after the index was built.

        Args:
            keys: current rows, (k, d).
            state: what the index's `state` method returned.
        """

    def __repr__(self) -> str:
        settings = {name: value for name, value in vars(self).items() if name != "sampled"}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in settings.items())})"


class IVF(Approximate):
    """Inverted lists (IVF): keys grouped by nearest centroid; a query searches the lists of its nearest centroids.

    Centroids are trained by k-means on 64 keys per list. A key moves to its new list when it is written, so only the
    centroids become outdated.

    Args:
        lists: number of lists. Usual values are the square root of the bank's size, or a few times that.
        effort: number of lists that a query searches. A larger number finds more of the true neighbours and costs more
            time.
        above: number of filled rows up to which search is exact.
        every_n_steps: training steps between two trainings of the centroids.

    Raises:
        InputError: where a number is below 1, `effort` is above `lists`, or `above` is below `lists`.
    """

    of_parts = True

    @checked
    def __init__(self, lists: int = 1024, effort: int = 32, above: int = 500_000, every_n_steps: int = 1000) -> None:
        if min(lists, effort, above, every_n_steps) < 1 or effort > lists or above < lists:
            raise InputError(
                f"IVF of lists={lists} effort={effort} above={above} every_n_steps={every_n_steps}: give numbers of "
                "at least 1, with effort <= lists <= above"
            )
        self.lists, self.effort, self.above, self.every_n_steps = lists, effort, above, every_n_steps
        self.sampled = _SAMPLED * lists

    def build(self, keys: Tensor, sample: Tensor, seed: int) -> ApproximateIndex:
        return InvertedLists(train_centroids(sample, self.lists, seed), keys)

    def restore(self, keys: Tensor, state: Tensor) -> ApproximateIndex:
        return InvertedLists(state, keys)


class HNSW(Approximate):
    """Neighbour graph (HNSW) that a search traverses.

    Keys written after the build are searched exactly, in addition to the graph.

    Args:
        links: links from a key to other keys. A larger number finds more true neighbours and costs memory and time.
        effort: number of candidate nodes that a traversal keeps. Raised to the number of requested neighbours where
            that is larger.
        above: number of filled rows up to which search is exact.
        every_n_steps: training steps between two builds. One thread builds a graph, which takes minutes at a million
            keys.

    Raises:
        InputError: where a number is below 1, or `links` is below 2.
    """

    copies = True

    @checked
    def __init__(self, links: int = 16, effort: int = 64, above: int = 500_000, every_n_steps: int = 5000) -> None:
        if min(links - 1, effort, above, every_n_steps) < 1:
            raise InputError(
                f"HNSW of links={links} effort={effort} above={above} every_n_steps={every_n_steps}: give numbers of "
                "at least 1, and links of at least 2"
            )
        self.links, self.effort, self.above, self.every_n_steps = links, effort, above, every_n_steps

    def build(self, keys: Tensor, sample: Tensor, seed: int) -> ApproximateIndex:
        return NeighbourGraph(NeighbourGraph.build(keys, self.links))

    def restore(self, keys: Tensor, state: Tensor) -> ApproximateIndex:
        return NeighbourGraph(state)


class ApproximateSearch(nn.Module):
    """Approximate index of one `KeyStore`, in this process's memory; its state is part of the checkpoint.

    A search result depends only on the store's keys and the index's state, and that state is determined by the store at
    a known step. A resumed run therefore finds the same neighbours as an uninterrupted run.

    Args:
        settings: kind of index, and when to build it.
        seed: seed of the sampled keys and of k-means.

    Attributes:
        begun: step whose keys the next index is built from, int64 scalar; -1 for none.
        used: step whose keys the index in use was built from, int64 scalar; -1 for none.
    """

    begun: Tensor
    used: Tensor

    def __init__(self, settings: Approximate, seed: int) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.register_buffer("begun", torch.tensor(_NONE))  # build step of the next index
        self.register_buffer("used", torch.tensor(_NONE))  # build step of the index in use
        self._index: ApproximateIndex | None = None
        self._building: Future[ApproximateIndex] | None = None
        self._loaded: dict[str, Tensor] = {}

    def search(
        self, store: KeyStore, query: Float[Tensor, "b d"], count: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]] | None:
        """Approximate top-k search: scores and local rows of the nearest keys, or None while search is exact.

        Args:
            store: keys to search.
            query: rows to search for, (b, d).
            count: number of keys per query.
        """
        index = self._in_use(store)
        return None if index is None else index.search(query.float(), count, self.settings.effort)

    def follow(self, store: KeyStore, step: int) -> None:
        """Update the index with the rows written at this step; start or adopt a build where the step is due for it.

        Args:
            store: keys after the step was written.
            step: number of the step, from 0.
        """
        if store.keys.is_cuda:
            return
        index = self._in_use(store)
        if index is not None:
            _move(index, store, step)
        if (step + 1) % self.settings.every_n_steps:
            return
        if self._building is not None:
            self._index, self._building = self._building.result(), None
            _move(self._index, store, int(self.begun) + 1)  # rows written during the build
            self.used.copy_(self.begun)
            self.begun.fill_(_NONE)
        filled = int(store.filled)
        if filled > self.settings.above:
            # Rows written during the build may be torn reads; `_move` rewrites them before the index is used.
            keys, sample = store.held()[0], self._sample(store, filled, step)
            keys = keys.clone() if self.settings.copies else keys
            self._building = _in_thread(self.settings.build, keys, sample, self.seed + step)
            self.begun.fill_(step)

    def _in_use(self, store: KeyStore) -> ApproximateIndex | None:
        """The current index; after a load, the index restored from the checkpoint's state."""
        if self._loaded and not store.keys.is_cuda:
            loaded, self._loaded, keys = self._loaded, {}, store.held()[0]
            if "used" in loaded:
                self._index = self.settings.restore(keys, loaded["used"])
                _move(self._index, store, int(self.used) + 1)
            if "coming" in loaded:
                self._building = _in_thread(self.settings.restore, keys, loaded["coming"])
        return self._index

    def _sample(self, store: KeyStore, filled: int, step: int) -> Tensor:
        everyone = torch.zeros(1, dtype=torch.int64)
        draws = uniform((self.seed, step, Purpose.BANK_LISTS), everyone, self.settings.sampled)[0]
        return store.at((draws.double() * filled).long()[None])[0]

    def get_extra_state(self) -> dict[str, Tensor]:
        if self._loaded:
            return self._loaded
        coming = None if self._building is None else self._building.result()
        found = {"used": self._index, "coming": coming}
        return {name: index.state() for name, index in found.items() if index is not None}

    @staticmethod
    def forget(state: dict[str, Any], prefix: str) -> None:
        """Remove the index from a stored state, where rows have moved; search is exact until the next index is built.

        Args:
            state: state dict of a whole method, changed in place.
            prefix: prefix of this module's entries.
        """
        state[prefix + "begun"], state[prefix + "used"] = torch.tensor(_NONE), torch.tensor(_NONE)
        state[prefix + "_extra_state"] = {}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self._index = self._building = None
        self._loaded = dict(state)


def _move(index: ApproximateIndex, store: KeyStore, since: int) -> None:
    keys, _ = store.held()
    written = store.written[store.part : int(store.filled) : store.parts]
    row = (written >= since).nonzero().flatten()
    index.replace(row, keys[row])


def _in_thread(work: Any, *arguments: Any) -> Future[Any]:
    """Run a function in a background thread: FAISS releases Python's lock."""
    worker = ThreadPoolExecutor(max_workers=1)
    future = worker.submit(work, *arguments)
    worker.shutdown(wait=False)
    return future
