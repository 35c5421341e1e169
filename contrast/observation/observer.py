"""Base class of observers, which compute a statistic of one training step, and the output that they observe."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from contrast.losses import Loss, LossOutput
from contrast.observation.blocks import Block
from contrast.observation.negatives import PerQuery
from contrast.pairs import Pairs

__all__ = ["ObservedOutput", "Observer", "RawRows", "floats_at", "histograms", "numbers", "recorded_name"]


class RawRows(NamedTuple):
    """Network outputs of a step before normalisation.

    Attributes:
        features: output of the backbone, (n, d).
        embeddings: output of the projection head, (n, e), or (h, n, e) with heads.
        index: sample of each row, (n,), in the order of both.
    """

    features: Float[Tensor, "n d"]
    embeddings: Float[Tensor, "*h n e"]
    index: Int[Tensor, " n"]  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here


@dataclass(frozen=True, kw_only=True)
class ObservedOutput(LossOutput):
    """Output of a loss at an observed step, with the labels, the network outputs and the sampled queries.

    Each tuple has one element per direction, in the order of `pairs`. All tensors are detached, and all but `labels`
    hold the rows of this process only.

    Attributes:
        labels: labels of all training samples, (n,), int64, -1 for no label; None without labels. ``labels[index]``
            are the labels of queries whose samples are `index`.
        raw: network outputs of the step before normalisation; None where they were not recorded.
        positive: score of each query with its positive, (*h, b): the loss's score, or the cosine similarity for a loss
            without scores.
        sampled: the sampled queries (`scores.queries`), with all their negatives.
        negatives: sums over the negatives of each sampled query. Empty for a loss without negatives.
        draws: random number of each query, (b,), float64, a function of its sample and view; the queries with the
            lowest numbers are sampled.
    """

    labels: Int[Tensor, " n"] | None = None
    raw: RawRows | None = None
    positive: tuple[Tensor, ...] = ()
    sampled: tuple[Pairs, ...] = ()
    negatives: tuple[PerQuery, ...] = ()
    draws: tuple[Tensor, ...] = ()


class Observer(ABC):
    """Statistic of the pairs of one training step: a part of a row of ``scores.jsonl``.

    A run makes a fresh copy of each observer for each observed step. So attributes that `add` sets belong to one step,
    and a row never depends on earlier steps. The three methods `add_negatives`, `add` and `row` run in this order,
    under inference mode for the first two, after the loss and before backward. They must not change the pairs, the
    parameters or the state of a random generator.

    An observer outside the package is listed in the configuration: ``scores: {observers: [my_module.MyObserver]}``.

    Attributes:
        name: key of the row in ``scores.jsonl``, and prefix of its scalars in ``metrics.jsonl``. If it is empty, the
            name is the class name in snake case.
    """

    name: str = ""

    def add_negatives(self, pairs: Pairs, block: Block) -> None:  # noqa: B027  # a hook, which may do nothing
        """Add a block of negatives of the sampled queries.

        The negatives come in blocks of one kind and of bounded size, because the whole matrix of scores may not fit in
        memory. Placeholders, such as a queue's random start, are left out.

        Args:
            pairs: the sampled queries of one direction.
            block: some of their negatives: kind, scores, and which of them are offered.
        """

    @abstractmethod
    def add(self, loss: Loss, output: LossOutput) -> None:
        """Add an observed step.

        Args:
            loss: the loss of the run.
            output: its output; the pairs are after the transforms. In a run it is an `ObservedOutput`, which also has
                the labels, the network outputs and the sampled queries.
        """

    @abstractmethod
    def row(self) -> dict[str, Any]:
        """The statistic over all processes, as plain data; the same on every process.

        This is a collective call: every process makes it. The values are finite numbers, lists of finite numbers, and
        mappings of them with texts as keys. A mapping with the keys ``counts`` (b numbers) and ``edges`` (b + 1
        increasing numbers) is a histogram. Leave out a key that has no value.
        """

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Numbers for ``metrics.jsonl`` and the loggers; by default, every number of the row that is not in a list.

        This is a collective call: every process makes it.

        Args:
            row: result of `row`.

        Returns:
            The numbers by name; a run puts the observer's name and a slash before each name.
        """
        return {"/".join(path): value for path, value in numbers(row)}


def recorded_name(observer: Observer) -> str:
    """Key of an observer's row: its `name`, or its class name in snake case.

    Example:
        >>> class HardestMargin(Observer):
        ...     def add(self, loss, output): ...
        ...     def row(self): ...
        >>> recorded_name(HardestMargin())
        'hardest_margin'
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(observer).__name__)
    return observer.name or words.lower()


def numbers(row: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """All numbers of nested mappings, each with the keys that lead to it; lists are skipped.

    Example:
        >>> numbers({"mean": 0.5, "by_kind": {"mined": 2}, "counts": [1, 2]})
        [(('mean',), 0.5), (('by_kind', 'mined'), 2)]
    """
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            found += numbers(value, (*path, key))
        elif isinstance(value, int | float):
            found.append(((*path, key), value))
    return found


def histograms(row: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """All histograms of nested mappings: those with ``counts`` and ``edges``, each with the keys that lead to it."""
    found = [(path, row)] if "counts" in row and "edges" in row else []
    for key, value in row.items():
        if isinstance(value, Mapping):
            found += histograms(value, (*path, key))
    return found


def floats_at(row: Mapping[str, Any], paths: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Look up nested floats of a row by their paths; what is missing or not a float is left out.

    Args:
        row: nested mappings.
        paths: keys from the outside in, by the name of the result.
    """
    found = {}
    for name, path in paths.items():
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, float):
            found[name] = value
    return found
