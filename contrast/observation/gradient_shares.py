"""On which negatives each query's gradient falls, and what the positive in the denominator takes of it."""

from __future__ import annotations

import math
from typing import Any

import torch

from contrast.losses import PositiveLogits
from contrast.observation.hardness import top_shares
from contrast.observation.negatives import PerQuery, positive
from contrast.observation.sums import Average, Histogram

__all__ = ["COUPLING_BINS", "GradientShares"]

COUPLING_BINS = 50
_TOPS = (1, 10, 100)
_OCTAVES = 24  # effective numbers are counted by their logarithm, up to 2^24


class GradientShares:
    """Sums over queries, of all directions and processes.

    Args:
        device: where the queries are.
    """

    def __init__(self, device: torch.device) -> None:
        self._effective = Histogram(device, 100, 0.0, _OCTAVES)
        self._coupling = Histogram(device, COUPLING_BINS, 0.0, 1.0)
        names = ("effective", "negatives", "synthetic", "same_class", "pull", "push", *map(str, _TOPS))
        self._means = {name: Average(device) for name in names}
        self._mixes = False

    def add(self, seen: PerQuery, positives: PositiveLogits) -> None:
        """Add queries; shares are those of queries that have any gradient on negatives."""
        some, total = seen.total > 0, positive(seen.total)
        entropy = total.log() + seen.entropy / total
        octaves = (entropy / math.log(2)).masked_fill(~some, 0.0)
        self._effective.add(octaves, some.to(octaves.dtype))
        shares = {"effective": entropy.exp(), "synthetic": seen.mixed / total}
        shares |= {str(most): top_shares(seen, most) for most in _TOPS}
        self._mixes |= bool({"pair_mix", "query_mix"} & seen.kinds)
        if seen.false is not None:
            shares["same_class"] = seen.false / total
        for name, values in shares.items():
            self._means[name].add(values, some)
        for name, values in {"negatives": seen.negatives, "pull": seen.pull, "push": seen.push}.items():
            self._means[name].add(values)
        met = (seen.negatives > 0).to(octaves.dtype)
        self._coupling.add(torch.sigmoid(seen.partition - positives.logit.flatten()), met)

    def row(self, labelled: bool) -> dict[str, Any]:
        """`gradient` and `coupling`, as a row has them; with the share of the query's class if any label is known."""
        means = {name: average.value() for name, average in self._means.items()}
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
