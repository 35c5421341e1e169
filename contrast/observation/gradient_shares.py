"""On which negatives each query's gradient falls, and what the positive in the denominator takes of it."""

from __future__ import annotations

import math
from typing import Any

import torch

from contrast.losses import PositiveLogits
from contrast.observation.hardness import top_shares
from contrast.observation.negatives import PerQuery, positive
from contrast.observation.sums import Histogram, PerColumn

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
        self._means = PerColumn(device, len(_OF_GRADIENT) + len(_OF_ALL))
        self._mixes = False

    def add(self, seen: PerQuery, positives: PositiveLogits) -> None:
        """Add queries; shares are those of queries that have any gradient on negatives."""
        some, total = seen.total > 0, positive(seen.total)
        entropy = total.log() + seen.entropy / total
        octaves = (entropy / math.log(2)).masked_fill(~some, 0.0)
        self._effective.add(octaves, some.to(octaves.dtype))
        self._mixes |= bool({"pair_mix", "query_mix"} & seen.kinds)
        false = torch.full_like(total, torch.nan) if seen.false is None else seen.false / total
        shares = [entropy.exp(), seen.mixed / total, *(top_shares(seen, most) for most in _TOPS), false]
        # All in one sum: on so few numbers each call costs more than its arithmetic.
        numbers = torch.stack([*shares, seen.negatives.to(total.dtype), seen.pull, seen.push], dim=1)
        counted = torch.ones_like(numbers)
        counted[:, : len(shares)] = some[:, None].to(total.dtype)
        self._means.add(torch.where(counted > 0, numbers, 0.0), counted)
        met = (seen.negatives > 0).to(octaves.dtype)
        self._coupling.add(torch.sigmoid(seen.partition - positives.logit.flatten()), met)

    def row(self, labelled: bool) -> dict[str, Any]:
        """`gradient` and `coupling`, as a row has them; with the share of the query's class if any label is known."""
        means = dict(zip((*_OF_GRADIENT, *_OF_ALL), self._means.means(), strict=True))
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
