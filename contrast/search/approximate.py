"""Approximate top-k search with FAISS: inverted lists (IVF) and a neighbour graph (HNSW)."""

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
    """Base class of approximate top-k indexes, which store keys by row number.

    A search compares a query with only a few of the keys.
    """

    @abstractmethod
    def replace(self, row: Int[Tensor, " b"], keys: Float[Tensor, "b d"]) -> None:
        """Write keys into rows of the index.

        Args:
            row: row numbers (int64), each at most once, in any order. Each number is an existing row, or one of the
                next rows to be appended.
            keys: the new keys of these rows.
        """

    @abstractmethod
    def search(
        self, query: Float[Tensor, "b d"], count: int, effort: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
        """Approximate top-k search by inner product, best first.

        Args:
            query: float32 rows on the CPU.
            count: number of neighbours per query (k).
            effort: amount of the index that is searched; its unit depends on the index.

        Returns:
            The inner products, and the rows of their keys (int64). Where fewer than `count` keys were compared, the
            remaining places hold -inf and -1.
        """

    @abstractmethod
    def state(self) -> Tensor:
        """The part of the index that a checkpoint stores: together with the keys, it determines every search."""


_WIDENED = 1 << 18  # half-precision rows that are converted to float32 at a time


class InvertedLists(ApproximateIndex):
    """Inverted file index (IVF): each key is in the list of the centroid with the largest inner product.

    ``search(q) = top-k { k_j : list(k_j) among the p centroids nearest to q }``. The keys that a search finds depend
    only on the centroids and the keys, not on the order in which the keys were added.

    Args:
        centroids: one row per list, on the CPU.
        keys: the initial keys, stored in rows 0, 1, and so on.

    Source: Jégou et al., Product Quantization for Nearest Neighbor Search, TPAMI 2011, section IV, without the
    quantisation; FAISS's IndexIVFFlat, Douze et al., arXiv 2401.08281.

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
        """Write keys into rows of the index, as `ApproximateIndex.replace`."""
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
        """Approximate top-k search as in `ApproximateIndex.search`; `effort` is the number of lists searched per query.

        Args:
            query: float32 rows on the CPU.
            count: number of neighbours per query (k).
            effort: number of lists searched per query, FAISS's ``nprobe``.
        """
        faiss = with_torch_threads()
        settings = faiss.SearchParametersIVF(nprobe=effort)
        score, row = self._index.search(query.numpy(), count, params=settings)
        row = torch.from_numpy(row)
        return torch.from_numpy(score).masked_fill(row < 0, -torch.inf), row

    def state(self) -> Tensor:
        """The centroids."""
        return self._centroids

    def _add(self, keys: Tensor) -> None:
        with_torch_threads()
        for block in torch.split(keys, _WIDENED) if len(keys) else ():
            self._index.add(block.float().numpy())


def train_centroids(sample: Float[Tensor, "n d"], lists: int, seed: int) -> Float[Tensor, "{lists} d"]:
    """Unit-norm centroids by spherical k-means, ten iterations.

    The result depends only on the arguments.

    Args:
        sample: training rows on the CPU, at least as many as `lists`.
        lists: number of centroids.
        seed: seed of the initial centroids.

    Raises:
        InputError: if there are fewer rows than lists.
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
    """Hierarchical navigable small world graph (HNSW) over a fixed set of keys.

    A key cannot be removed from the graph. Rows that are replaced after the graph was built are filtered out of its
    results, and their new keys are searched exactly, so a search always uses the current keys. The more rows were
    replaced, the slower a search is, until a new graph is built.

    Args:
        graph: serialised graph (uint8), from `build` or from the `state` of another `NeighbourGraph`.

    Source: Malkov and Yashunin, TPAMI 2020, arXiv 1603.09320; FAISS's IndexHNSWFlat, Douze et al., arXiv 2401.08281.

    Example:
        >>> keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
        >>> graph = NeighbourGraph(NeighbourGraph.build(keys, links=4))
        >>> graph.replace(torch.tensor([0]), torch.tensor([[-1.0, 0.0]]))
        >>> graph.search(torch.tensor([[1.0, 0.0]]), 3, effort=16)[1].tolist()
        [[2, 1, 0]]
    """

    def __init__(self, graph: UInt8[Tensor, " n"]) -> None:
        self._index = with_torch_threads().deserialize_index(graph.numpy())
        self._kept = torch.ones(self._index.ntotal, dtype=torch.bool)  # rows whose key in the graph is current
        self._row = torch.empty(0, dtype=torch.int64)  # replaced rows, sorted: a search does not depend on their order
        self._later = torch.empty(0, self._index.d)

    @staticmethod
    def build(keys: Float[Tensor, "k d"], links: int) -> UInt8[Tensor, " n"]:
        """Build the graph of these keys and serialise it to bytes.

        The result depends only on the arguments, because a single thread builds the graph.

        Args:
            keys: the keys of rows 0, 1, and so on, on the CPU.
            links: number of links per node on every level except the lowest, where a node has twice as many.

        Returns:
            The serialised graph (uint8).
        """
        faiss, threads = with_torch_threads(), torch.get_num_threads()
        index = faiss.IndexHNSWFlat(keys.shape[1], links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 4 * links
        faiss.omp_set_num_threads(1)
        try:
            index.add(keys.float().contiguous().numpy())
        finally:
            faiss.omp_set_num_threads(threads)  # restores torch's number too, where both libraries share one OpenMP
        return torch.from_numpy(faiss.serialize_index(index))

    def replace(self, row: Int[Tensor, " b"], keys: Float[Tensor, "b d"]) -> None:
        """Write keys into rows of the index, as `ApproximateIndex.replace`; later searches scan these rows exactly."""
        both = torch.unique(torch.cat([self._row, row]))
        later = torch.empty(len(both), self._later.shape[1])
        later[torch.searchsorted(both, self._row)] = self._later
        later[torch.searchsorted(both, row)] = keys.float()
        self._row, self._later = both, later
        self._kept[row[row < len(self._kept)]] = False

    def search(
        self, query: Float[Tensor, "b d"], count: int, effort: int
    ) -> tuple[Float[Tensor, "b {count}"], Int[Tensor, "b {count}"]]:
        """Approximate top-k search as in `ApproximateIndex.search`.

        Args:
            query: float32 rows on the CPU.
            count: number of neighbours per query (k).
            effort: number of candidate nodes that the graph search keeps, FAISS's ``efSearch``; at least `count` is
                used.
        """
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
        """The serialised graph (uint8)."""
        return torch.from_numpy(with_torch_threads().serialize_index(self._index))
