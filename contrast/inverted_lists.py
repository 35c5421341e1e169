"""Approximate nearest keys: lists of keys by centroid, of which a query looks through the few nearest."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.approximate_index import ApproximateIndex
from contrast.errors import InputError
from contrast.faiss_library import with_torch_threads

__all__ = ["InvertedLists", "train_centroids"]

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
