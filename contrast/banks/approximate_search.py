"""Approximate search of a bank too large for an exact one, kept up with the bank as it changes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.banks.key_store import KeyStore
from contrast.errors import InputError
from contrast.inverted_lists import InvertedLists, train_centroids
from contrast.randomness import Purpose, uniform

__all__ = ["Approximate", "ApproximateSearch"]

_SAMPLED = 64  # keys a list that centroids are trained on
_NONE = -1


class Approximate:
    """How a large bank is searched: by lists of keys, few of which a query looks through.

    ``lists`` centroids are trained on a sample of the keys, and each key is in its centroid's list. A list holds
    today's keys: rows are moved as they are written. Centroids are trained anew every ``every_n_steps`` steps, beside
    the training steps, and used from the next multiple on. Until there are some, and on CUDA, search is exact.

    Args:
        lists: how many; the root of the bank's size, or a few times it, is usual.
        probes: lists that a query looks through. More find more of the true neighbours, and cost more.
        above: filled rows up to which search is exact.
        every_n_steps: between trainings of the centroids.

    Raises:
        InputError: for a number below 1, more probes than lists, or a threshold that leaves a list no key.
    """

    def __init__(self, lists: int = 1024, probes: int = 32, above: int = 500_000, every_n_steps: int = 1000) -> None:
        if min(lists, probes, above, every_n_steps) < 1 or probes > lists or above < lists:
            raise InputError(
                f"Approximate of lists={lists} probes={probes} above={above} every_n_steps={every_n_steps}: give "
                "numbers from 1, no more probes than lists, no fewer rows above which it begins than lists"
            )
        self.lists, self.probes, self.above, self.every_n_steps = lists, probes, above, every_n_steps

    def __repr__(self) -> str:
        return f"Approximate(lists={self.lists}, probes={self.probes}, above={self.above})"


class ApproximateSearch(nn.Module):
    """The lists over one store, in this process's memory; their centroids are in the checkpoint.

    What a search finds is a function of the store's keys and the centroids, and those are functions of the store at
    known steps: several processes that share the keys out find what one would, and so does a run that was resumed.

    Args:
        settings: how many lists, and when.
        width: d of a key.
        seed: of the samples and of k-means.
    """

    centroids: Tensor
    coming: Tensor
    begun: Tensor
    used: Tensor

    def __init__(self, settings: Approximate, width: int, seed: int) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        self.register_buffer("centroids", torch.zeros(settings.lists, width))
        self.register_buffer("coming", torch.zeros(settings.lists, width))
        self.register_buffer("begun", torch.tensor(_NONE))  # the step whose keys the coming centroids are of
        self.register_buffer("used", torch.tensor(_NONE))  # likewise, of those in use
        self._lists: InvertedLists | None = None
        self._building: Future[tuple[Tensor, InvertedLists]] | None = None

    def search(
        self, store: KeyStore, query: Float[Tensor, "b d"], count: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]] | None:
        """Scores and local rows of the nearest keys out of few lists, or None while search is exact."""
        lists = self._in_use(store)
        return None if lists is None else lists.search(query.float(), count, self.settings.probes)

    def follow(self, store: KeyStore, step: int) -> None:
        """Take the rows that were written at this step, and train or take up centroids if it is time."""
        if store.keys.is_cuda:
            return
        lists = self._in_use(store)
        if lists is not None:
            self._move(lists, store, step)
        if (step + 1) % self.settings.every_n_steps:
            return
        if int(self.begun) != _NONE:
            self._take_up(store)
        filled = int(store.filled)
        if filled > self.settings.above:
            self._building = _beside(self._train, store.held()[0], self._sample(store, filled, step), step)
            self.begun.fill_(step)

    def _in_use(self, store: KeyStore) -> InvertedLists | None:
        """The lists; those that a checkpoint's centroids say, where it was loaded."""
        if self._lists is None and int(self.used) != _NONE and not store.keys.is_cuda:
            self._lists = InvertedLists(self.centroids.clone(), store.held()[0])
        if self._building is None and int(self.begun) != _NONE:
            self._building = _beside(self._build, store.held()[0], self.coming.clone())
        return self._lists

    def _take_up(self, store: KeyStore) -> None:
        assert self._building is not None  # `_in_use` has seen to it
        centroids, lists = self._building.result()
        self._move(lists, store, int(self.begun) + 1)  # what was written while they were being built
        self._lists, self._building = lists, None
        self.centroids.copy_(centroids)
        self.used.copy_(self.begun)
        self.begun.fill_(_NONE)

    def _move(self, lists: InvertedLists, store: KeyStore, since: int) -> None:
        keys, _ = store.held()
        written = store.written[store.part : int(store.filled) : store.parts]
        row = (written >= since).nonzero().flatten()
        lists.replace(row, keys[row])

    def _sample(self, store: KeyStore, filled: int, step: int) -> Tensor:
        everyone = torch.zeros(1, dtype=torch.int64)
        draws = uniform((self.seed, step, Purpose.BANK_LISTS), everyone, _SAMPLED * self.settings.lists)[0]
        return store.at((draws.double() * filled).long()[None])[0]

    def _train(self, keys: Tensor, sample: Tensor, step: int) -> tuple[Tensor, InvertedLists]:
        return self._build(keys, train_centroids(sample, self.settings.lists, self.seed + step))

    @staticmethod
    def _build(keys: Tensor, centroids: Tensor) -> tuple[Tensor, InvertedLists]:
        # `keys` is the live store: a row that is written meanwhile may be read half, and is replaced before use.
        return centroids, InvertedLists(centroids, keys)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self._building is not None:
            self.coming.copy_(self._building.result()[0])
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._lists = self._building = None


def _beside(work: Any, *arguments: Any) -> Future[Any]:
    """Begin this in a thread of its own: faiss works without Python's lock."""
    worker = ThreadPoolExecutor(max_workers=1)
    future = worker.submit(work, *arguments)
    worker.shutdown(wait=False)
    return future
