"""Approximate top-k search: inverted lists (IVF) and a neighbour graph (HNSW), by FAISS."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from contrast.errors import InputError
from contrast.search._faiss import with_torch_threads
from contrast.search.exact import nearest

__all__ = ["ApproximateIndex", "InvertedLists", "NeighbourGraph", "train_centroids"]


class ApproximateIndex(ABC):
    """Keys by row number, of which a search looks at few."""

    @abstractmethod
    def replace(self, row: Int[Tensor, " b"], keys: Float[Tensor, "b d"]) -> None:
        """Put keys into these rows, each named once: rows that are there already, and the next ones, in any order."""

    @abstractmethod
    def search(
        self, query: Float[Tensor, "b d"], count: int, effort: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
        """The nearest keys that were looked at, best first; -inf and -1 where there were fewer.

        Args:
            query: float32 rows on the CPU.
            count: neighbours a query.
            effort: how much is looked at, in the index's own measure.
        """

    @abstractmethod
    def state(self) -> Tensor:
        """What a checkpoint keeps: with the keys, all that a search depends on."""


_WIDENED = 1 << 18  # rows of half precision that are widened at once


class InvertedLists(ApproximateIndex):
    """Keys by row number, each in the list of the centroid of largest inner product (IVF).

    ``search(q) = top-k { k_j : list(k_j) among the p centroids nearest to q }``. Which keys are found is a function of
    centroids and keys alone, not of the order in which keys came.

    Source: Jégou et al., Product Quantization for Nearest Neighbor Search, TPAMI 2011, section IV, without the
    quantisation; FAISS's IndexIVFFlat, Douze et al., arXiv 2401.08281.

    Args:
        centroids: of the lists, on the CPU.
        keys: rows 0 and on.

    Example:
        >>> lists = InvertedLists(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]))
        >>> lists.search(torch.tensor([[1.0, 0.1]]), 3, effort=1)[1].tolist()
        [[0, 2, -1]]
    """

    def __init__(self, centroids: Float[Tensor, "l d"], keys: Float[Tensor, "k d"]) -> None:
        faiss = with_torch_threads()
        count, width = centroids.shape
        self._centroids = centroids
        self._quantizer = faiss.IndexFlatIP(width)
        self._quantizer.add(centroids.numpy())
        self._index = faiss.IndexIVFFlat(self._quantizer, width, count, faiss.METRIC_INNER_PRODUCT)
        self._index.set_direct_map_type(faiss.DirectMap.Array)
        self._add(keys)

    def replace(self, row: Int[Tensor, " b"], keys: Float[Tensor, "b d"]) -> None:
        row, order = row.sort()
        keys = keys[order].float()
        there = row < self._index.ntotal
        if there.any():
            with_torch_threads()
            self._index.update_vectors(row[there].numpy(), keys[there].numpy())
        self._add(keys[~there])

    def search(
        self, query: Float[Tensor, "b d"], count: int, effort: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
        """As `ApproximateIndex.search`; the effort is how many lists are looked through."""
        faiss = with_torch_threads()
        settings = faiss.SearchParametersIVF(nprobe=effort)
        score, row = self._index.search(query.numpy(), count, params=settings)
        row = torch.from_numpy(row)
        return torch.from_numpy(score).masked_fill(row < 0, -torch.inf), row

    def state(self) -> Tensor:
        return self._centroids

    def _add(self, keys: Tensor) -> None:
        with_torch_threads()
        for block in torch.split(keys, _WIDENED) if len(keys) else ():
            self._index.add(block.float().numpy())


def train_centroids(sample: Float[Tensor, "n d"], lists: int, seed: int) -> Float[Tensor, "{lists} d"]:
    """Unit centroids of the sample's rows by spherical k-means, ten rounds: a function of its arguments.

    Args:
        sample: rows on the CPU, at least one a list.
        lists: how many.
        seed: of the start.

    Raises:
        InputError: where there are fewer rows than lists.
    """
    if len(sample) < lists:
        raise InputError(f"{lists} lists of {len(sample)} keys: ask for {len(sample)} lists or fewer")
    faiss = with_torch_threads()
    settings = faiss.ClusteringParameters()
    settings.niter, settings.seed, settings.spherical = 10, seed & 0x7FFFFFFF, True
    settings.min_points_per_centroid, settings.max_points_per_centroid = 1, len(sample)
    clustering = faiss.Clustering(sample.shape[1], lists, settings)
    clustering.train(sample.float().numpy(), faiss.IndexFlatIP(sample.shape[1]))
    return torch.from_numpy(faiss.vector_to_array(clustering.centroids).reshape(lists, -1).copy())


class NeighbourGraph(ApproximateIndex):
    """A hierarchical navigable small world graph (HNSW) of the keys that it was built from.

    A graph forgets no key. Rows that are replaced afterwards are left out of what the walk finds and searched exactly,
    so that a search sees today's keys; the more of them there are, the slower it is, until a new graph is built.

    Source: Malkov and Yashunin, TPAMI 2020, arXiv 1603.09320; FAISS's IndexHNSWFlat, Douze et al., arXiv 2401.08281.

    Args:
        graph: from `build` or another one's `state`.

    Example:
        >>> keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> graph = NeighbourGraph(NeighbourGraph.build(keys, links=4))
        >>> graph.replace(torch.tensor([0]), torch.tensor([[-1.0, 0.0]]))
        >>> graph.search(torch.tensor([[1.0, 0.0]]), 3, effort=16)[1].tolist()
        [[2, 1, 0]]
    """

    def __init__(self, graph: UInt8[Tensor, " n"]) -> None:
        self._index = with_torch_threads().deserialize_index(graph.numpy())
        self._kept = torch.ones(self._index.ntotal, dtype=torch.bool)  # rows whose key is still the graph's
        self._row = torch.empty(0, dtype=torch.int64)  # the others, in order: however they came, a search is the same
        self._later = torch.empty(0, self._index.d)

    @staticmethod
    def build(keys: Float[Tensor, "k d"], links: int) -> UInt8[Tensor, " n"]:
        """The graph of these keys, as bytes: a function of its arguments, since one thread makes it.

        Args:
            keys: rows 0 and on, on the CPU.
            links: of a node to others, on all levels but the lowest, which has twice as many.
        """
        faiss, threads = with_torch_threads(), torch.get_num_threads()
        index = faiss.IndexHNSWFlat(keys.shape[1], links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 4 * links
        faiss.omp_set_num_threads(1)
        try:
            index.add(keys.float().contiguous().numpy())
        finally:
            faiss.omp_set_num_threads(threads)  # where both have one OpenMP, torch's number too
        return torch.from_numpy(faiss.serialize_index(index))

    def replace(self, row: Int[Tensor, " b"], keys: Float[Tensor, "b d"]) -> None:
        both = torch.unique(torch.cat([self._row, row]))
        later = torch.empty(len(both), self._later.shape[1])
        later[torch.searchsorted(both, self._row)] = self._later
        later[torch.searchsorted(both, row)] = keys.float()
        self._row, self._later = both, later
        self._kept[row[row < len(self._kept)]] = False

    def search(
        self, query: Float[Tensor, "b d"], count: int, effort: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
        """As `ApproximateIndex.search`; the effort is how many nodes the walk keeps in view, at least the count."""
        faiss = with_torch_threads()
        bits = np.packbits(self._kept.numpy(), bitorder="little")
        kept = faiss.IDSelectorBitmap(len(self._kept), faiss.swig_ptr(bits))
        settings = faiss.SearchParametersHNSW(efSearch=max(effort, count), sel=kept)
        score, row = (torch.from_numpy(each) for each in self._index.search(query.numpy(), count, params=settings))
        score = score.masked_fill(row < 0, -torch.inf)
        if len(self._row):
            later, place = nearest(query, self._later, min(count, len(self._row)))
            score, row = torch.cat([score, later], dim=1), torch.cat([row, self._row[place]], dim=1)
            score, best = score.topk(count, dim=1)
            row = row.gather(1, best)
        return score, row

    def state(self) -> UInt8[Tensor, " n"]:
        return torch.from_numpy(with_torch_threads().serialize_index(self._index))
