"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.search.exact import nearest

__all__ = ["check_knn", "knn_top1", "weighted_knn_scores"]

_AT_ONCE = 8192  # queries per search, to stay within the search's memory budget


@checked
def weighted_knn_scores(
    query: Float[Tensor, "b d"],
    keys: Float[Tensor, "k d"],
    labels: Int[Tensor, " k"],
    classes: int,
    neighbours: int = 200,
    temperature: float = 0.1,
) -> Float[Tensor, "b {classes}"]:
    """Class scores of weighted cosine kNN: score_c = Σ_{j in the k nearest} exp(s_j / t) [y_j = c].

    Args:
        query: features to classify, (b, d); normalised by this function.
        keys: features of the training samples, (k, d); normalised by this function.
        labels: classes of the training samples, 0 to classes − 1, (k,).
        classes: number of classes.
        neighbours: k, number of neighbours that vote.
        temperature: t; a smaller value gives more weight to the nearest neighbours.

    Returns:
        One score per class, (b, classes), float64, because exp(1 / t) overflows float32 at t = 0.011.

    Raises:
        InputError: where there are fewer keys than neighbours, the temperature is not positive or so small that the
            weights overflow, or a label is not a class.

    Source: Wu, Xiong, Yu and Lin, Unsupervised Feature Learning via Non-Parametric Instance Discrimination (CVPR 2018,
    arXiv 1805.01978), section 3.4.

    Example:
        >>> keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> weighted_knn_scores(torch.tensor([[2.0, 0.0]]), keys, torch.tensor([1, 0]), 2, neighbours=1).argmax().item()
        1
    """
    check_knn(neighbours, temperature, len(keys))
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"labels from {int(labels.min())} to {int(labels.max())} are not among {classes} classes")
    unit = F.normalize(keys, dim=1)
    parts = []
    for chunk in torch.split(F.normalize(query, dim=1), _AT_ONCE):
        scores, columns = nearest(chunk, unit, neighbours)
        weights = torch.exp(scores.double() / temperature)
        parts.append(weights.new_zeros(len(chunk), classes).scatter_add_(1, labels[columns], weights))
    return torch.cat(parts)


def check_knn(neighbours: int, temperature: float, samples: int) -> None:
    """Check the number of neighbours and the temperature for `weighted_knn_scores`.

    Raises:
        InputError: where there are fewer than `neighbours` samples, or the temperature is below 0.0015.
    """
    if not 1 <= neighbours <= samples:
        raise InputError(f"{neighbours} neighbours of {samples} training samples: ask for 1 to {samples}")
    if not temperature >= 0.0015:  # exp(1 / 0.0014) overflows float64
        raise InputError(f"a kNN temperature of {temperature} overflows exp(1 / t): give at least 0.0015")


@checked
def knn_top1(
    query: Float[Tensor, "b d"],
    query_labels: Int[Tensor, " b"],
    keys: Float[Tensor, "k d"],
    labels: Int[Tensor, " k"],
    classes: int,
    neighbours: int = 200,
    temperature: float = 0.1,
) -> float:
    """Top-1 accuracy of weighted cosine kNN: share of the queries whose highest-scoring class is the true class.

    Args:
        query: features to classify, (b, d).
        query_labels: true classes of the queries, (b,).
        keys: features of the training samples, (k, d).
        labels: classes of the training samples, (k,).
        classes: number of classes.
        neighbours: k, number of neighbours that vote.
        temperature: t in the weight exp(s / t).

    Raises:
        InputError: as `weighted_knn_scores`, or where a query's label is not a class.
    """
    if len(query_labels) and not 0 <= int(query_labels.min()) <= int(query_labels.max()) < classes:
        low, high = int(query_labels.min()), int(query_labels.max())
        raise InputError(f"labels of queries from {low} to {high} are not among {classes} classes")
    scores = weighted_knn_scores(query, keys, labels, classes, neighbours, temperature)
    return float((scores.argmax(dim=1) == query_labels).double().mean())
