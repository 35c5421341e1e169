"""Approximate search over a memory bank whose keys change at every step."""

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

_SAMPLED = 64  # keys a list that centroids are trained on
_NONE = -1


class Approximate(ABC):
    """How a large bank is searched.

    Every `every_n_steps` steps an index is built anew, in a thread beside the training steps, and used from the next
    multiple on. It always finds today's keys. Until there is one, and on CUDA, search is exact.

    Attributes:
        above: filled rows up to which search is exact.
        every_n_steps: between two builds.
        effort: how much of the index a query looks at.
        sampled: how many keys, drawn by step and seed, a build starts from besides the rows themselves.
        of_parts: whether processes that share the keys out find what one would.
        copies: whether it is built from a copy of the keys, since a row that changes meanwhile would change it.
    """

    above: int
    every_n_steps: int
    effort: int
    sampled: int = 0
    of_parts: bool = False
    copies: bool = False

    @abstractmethod
    def build(self, keys: Float[Tensor, "k d"], sample: Float[Tensor, "n d"], seed: int) -> ApproximateIndex:
        """An index of the keys."""

    @abstractmethod
    def restore(self, keys: Float[Tensor, "k d"], state: Tensor) -> ApproximateIndex:
        """The index that had this state, of today's keys; those written since it was built are put in afterwards."""

    def __repr__(self) -> str:
        said = {name: value for name, value in vars(self).items() if name != "sampled"}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in said.items())})"


class IVF(Approximate):
    """Inverted lists: keys by nearest centroid, and a query looks through the lists of the centroids nearest to it.

    Centroids are trained on 64 keys a list. A key changes its list as it is written, so that centroids alone age.

    Args:
        lists: how many; the root of the bank's size, or a few times it, is usual.
        effort: lists that a query looks through. More find more of the true neighbours, and cost more.
        above: filled rows up to which search is exact.
        every_n_steps: between trainings of the centroids.

    Raises:
        InputError: for a number below 1, more to look through than lists, or a threshold that leaves a list no key.
    """

    of_parts = True

    @checked
    def __init__(self, lists: int = 1024, effort: int = 32, above: int = 500_000, every_n_steps: int = 1000) -> None:
        if min(lists, effort, above, every_n_steps) < 1 or effort > lists or above < lists:
            raise InputError(
                f"IVF of lists={lists} effort={effort} above={above} every_n_steps={every_n_steps}: give numbers from "
                "1, no more effort than lists, and no fewer rows above which it begins than lists"
            )
        self.lists, self.effort, self.above, self.every_n_steps = lists, effort, above, every_n_steps
        self.sampled = _SAMPLED * lists

    def build(self, keys: Tensor, sample: Tensor, seed: int) -> ApproximateIndex:
        return InvertedLists(train_centroids(sample, self.lists, seed), keys)

    def restore(self, keys: Tensor, state: Tensor) -> ApproximateIndex:
        return InvertedLists(state, keys)


class HNSW(Approximate):
    """A graph of neighbours that a search walks; keys written since it was built are searched exactly beside it.

    Args:
        links: of a key to others. More find more, and cost memory and time.
        effort: nodes that a walk keeps in view, at least the neighbours asked for.
        above: filled rows up to which search is exact.
        every_n_steps: between two graphs. One thread builds a graph, in minutes at a million keys.

    Raises:
        InputError: for a number below 1, or a single link.
    """

    copies = True

    @checked
    def __init__(self, links: int = 16, effort: int = 64, above: int = 500_000, every_n_steps: int = 5000) -> None:
        if min(links - 1, effort, above, every_n_steps) < 1:
            raise InputError(
                f"HNSW of links={links} effort={effort} above={above} every_n_steps={every_n_steps}: give numbers from "
                "1, and links from 2"
            )
        self.links, self.effort, self.above, self.every_n_steps = links, effort, above, every_n_steps

    def build(self, keys: Tensor, sample: Tensor, seed: int) -> ApproximateIndex:
        return NeighbourGraph(NeighbourGraph.build(keys, self.links))

    def restore(self, keys: Tensor, state: Tensor) -> ApproximateIndex:
        return NeighbourGraph(state)


class ApproximateSearch(nn.Module):
    """The index over one store, in this process's memory; its state is in the checkpoint.

    What a search finds is a function of the store's keys and the index's state, and that is one of the store at a known
    step: a run that was resumed finds what the uninterrupted one does.

    Args:
        settings: which index, and when.
        seed: of the samples and of k-means.
    """

    begun: Tensor
    used: Tensor

    def __init__(self, settings: Approximate, seed: int) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.register_buffer("begun", torch.tensor(_NONE))  # the step whose keys the coming index is of
        self.register_buffer("used", torch.tensor(_NONE))  # likewise, of the one in use
        self._index: ApproximateIndex | None = None
        self._building: Future[ApproximateIndex] | None = None
        self._loaded: dict[str, Tensor] = {}

    def search(
        self, store: KeyStore, query: Float[Tensor, "b d"], count: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]] | None:
        """Scores and local rows of the nearest keys that were looked at, or None while search is exact."""
        index = self._in_use(store)
        return None if index is None else index.search(query.float(), count, self.settings.effort)

    def follow(self, store: KeyStore, step: int) -> None:
        """Take the rows that were written at this step, and begin or take up an index if it is time."""
        if store.keys.is_cuda:
            return
        index = self._in_use(store)
        if index is not None:
            _move(index, store, step)
        if (step + 1) % self.settings.every_n_steps:
            return
        if self._building is not None:
            self._index, self._building = self._building.result(), None
            _move(self._index, store, int(self.begun) + 1)  # what was written while it was being built
            self.used.copy_(self.begun)
            self.begun.fill_(_NONE)
        filled = int(store.filled)
        if filled > self.settings.above:
            # A row of the live store that is written meanwhile may be read half, and is replaced before use.
            keys, sample = store.held()[0], self._sample(store, filled, step)
            keys = keys.clone() if self.settings.copies else keys
            self._building = _beside(self.settings.build, keys, sample, self.seed + step)
            self.begun.fill_(step)

    def _in_use(self, store: KeyStore) -> ApproximateIndex | None:
        """The index; the one that a checkpoint speaks of, where it was loaded."""
        if self._loaded and not store.keys.is_cuda:
            loaded, self._loaded, keys = self._loaded, {}, store.held()[0]
            if "used" in loaded:
                self._index = self.settings.restore(keys, loaded["used"])
                _move(self._index, store, int(self.used) + 1)
            if "coming" in loaded:
                self._building = _beside(self.settings.restore, keys, loaded["coming"])
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
        """Take an index out of a stored state, where the rows have moved; search is exact until the next one."""
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


def _beside(work: Any, *arguments: Any) -> Future[Any]:
    """Begin this in a thread of its own: faiss works without Python's lock."""
    worker = ThreadPoolExecutor(max_workers=1)
    future = worker.submit(work, *arguments)
    worker.shutdown(wait=False)
    return future
