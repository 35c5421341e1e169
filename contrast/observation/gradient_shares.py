"""On which negatives each query's gradient falls, and what the positive in the denominator takes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from contrast.observation.hardness import top_shares
from contrast.observation.negatives import PerQuery, positive
from contrast.observation.sums import Array, Histogram, PerColumn

__all__ = ["COUPLING_BINS", "GradientShares"]

COUPLING_BINS = 50
_TOPS = (1, 10, 100)
_OF_GRADIENT = ("effective", "synthetic", *map(str, _TOPS), "same_class")  # of queries that have any on negatives
_OF_ALL = ("negatives", "pull", "push")
_OCTAVES = 24  # effective numbers are counted by their logarithm, up to 2^24


class GradientShares:
    """Sums over queries, of all directions and processes.

    Args:
        device: where the queries are.
    """

    def __init__(self, device: torch.device) -> None:
        self._effective = Histogram(device, 100, 0.0, _OCTAVES)
        self._coupling = Histogram(device, COUPLING_BINS, 0.0, 1.0)
        self._shares, self._means = PerColumn(device, len(_OF_GRADIENT)), PerColumn(device, len(_OF_ALL))
        self._mixes = False

    def add(self, seen: PerQuery, positive_logit: Array) -> None:
        """Add queries; shares are those of queries that have any gradient on negatives."""
        some, total = seen.total > 0, positive(seen.total)
        entropy = np.log(total) + seen.entropy / total
        self._effective.add_queries(entropy / math.log(2), some)
        self._mixes |= bool({"pair_mix", "query_mix"} & seen.kinds)
        false = np.full_like(total, np.nan) if seen.false is None else seen.false / total
        shares = [np.exp(entropy), seen.mixed / total, *top_shares(seen, _TOPS), false]
        numbers = np.stack(shares, axis=1)[some]
        self._shares.add(numbers, np.ones_like(numbers))
        numbers = np.stack([seen.negatives, seen.pull, seen.push], axis=1)
        self._means.add(numbers, np.ones_like(numbers))
        multiplier = np.exp(-np.logaddexp(0.0, positive_logit - seen.partition))
        self._coupling.add_queries(multiplier, seen.negatives > 0)

    def row(self, labelled: bool) -> dict[str, Any]:
        """`gradient` and `coupling`, as a row has them; with the share of the query's class if any label is known."""
        found = [*self._shares.means(), *self._means.means()]
        means = dict(zip((*_OF_GRADIENT, *_OF_ALL), found, strict=True))
        quantiles = [round(2**each, 4) for each in self._effective.row()["quantiles"]]
        coupling = self._coupling.row()
        gradient = {
            "effective": {"mean": means["effective"], "quantiles": quantiles},
            "negatives": means["negatives"],
            "top": {str(most): means[str(most)] for most in _TOPS},
            **({"synthetic": means["synthetic"]} if self._mixes else {}),
            **({"same_class": means["same_class"]} if labelled else {}),
            "pull": means["pull"],
            "push": means["push"],
        }
        return {"gradient": gradient, "coupling": {key: coupling[key] for key in ("counts", "mean", "quantiles")}}
