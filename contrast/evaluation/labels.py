"""Stratified label subsets and held-out splits of the train set."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["held_out_split", "label_subset"]


@checked
def label_subset(
    labels: Int[Tensor, " n"], seed: int, *, fraction: float | None = None, per_class: int | None = None
) -> Int[Tensor, " m"]:
    """Stratified subset of the labels; for one seed, a smaller subset is part of every larger subset.

    Args:
        labels: classes of all training samples, (n,).
        seed: seed of the choice.
        fraction: share of each class, rounded, at least one sample; 1 takes all samples. Give either this or
            `per_class`.
        per_class: number of samples per class.

    Returns:
        Positions, ascending, (m,).

    Raises:
        InputError: where neither or both are given, the fraction is not in (0, 1], or a class has too few samples.

    Example:
        >>> labels = torch.arange(100) % 10
        >>> len(label_subset(labels, 0, fraction=0.1)), len(label_subset(labels, 0, per_class=3))
        (10, 30)
    """
    if (fraction is None) == (per_class is None):
        raise InputError("give either a fraction of the labels or a number of labels per class")
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"a fraction of {fraction} labels: give a number above 0 and at most 1, say 0.1")
    classes, sizes = torch.unique(labels, return_counts=True)
    if per_class is not None:
        smallest = int(sizes.min())
        if not 1 <= per_class <= smallest:
            few = int(classes[sizes.argmin()])
            raise InputError(f"{per_class} labels per class, but class {few} has {smallest}: give 1 to {smallest}")
        wanted = torch.full_like(sizes, per_class)
    else:
        wanted = (sizes.double() * fraction).round().long().clamp_min(1)
    return _first_of_each_class(labels, wanted, (seed, Purpose.SPLIT))


@checked
def held_out_split(
    labels: Int[Tensor, " n"], seed: int, share: float = 0.2
) -> tuple[Int[Tensor, " fit"], Int[Tensor, " held"]]:
    """Stratified held-out split: positions to fit on, and positions to hold out.

    A share of each class with at least two samples is held out. A class always keeps at least one sample to fit on. The
    held-out part is empty where every class has one sample.

    Args:
        labels: classes of the samples that the probe may see, (n,).
        seed: seed of the choice.
        share: share of each class to hold out, rounded, at least one sample.

    Raises:
        InputError: where the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"a held-out share of {share}: give a number between 0 and 1, say 0.2")
    sizes = torch.unique(labels, return_counts=True)[1]
    wanted = (sizes.double() * share).round().long().clamp_min(1)
    held = _first_of_each_class(labels, torch.minimum(wanted, sizes - 1), (seed, Purpose.PROBE))
    kept = torch.ones_like(labels, dtype=torch.bool)
    kept[held] = False
    return kept.nonzero()[:, 0], held


def _first_of_each_class(labels: Tensor, wanted: Tensor, keys: tuple[int, ...]) -> Tensor:
    """Positions, ascending, of the first wanted[c] samples of the c-th class, in an order drawn from `keys`."""
    draws = uniform(keys, torch.arange(len(labels), device=labels.device), 1)[:, 0]
    order = draws.argsort(stable=True)
    chosen = [
        order[labels[order] == label][:count]
        for label, count in zip(torch.unique(labels).tolist(), wanted.tolist(), strict=True)
    ]
    return torch.cat(chosen).sort().values
