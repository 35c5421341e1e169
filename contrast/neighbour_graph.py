"""Approximate nearest keys: a graph of near neighbours that a search walks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from contrast.approximate_index import ApproximateIndex
from contrast.faiss_library import with_torch_threads
from contrast.nearest import nearest

__all__ = ["NeighbourGraph"]


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
