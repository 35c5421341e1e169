"""A method with a mistake, for the doctor to find."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from contrast.data import Batch
from contrast.methods import SimCLR
from contrast.pairs import UNKNOWN, Pairs

__all__ = ["Forgetful"]


class Forgetful(SimCLR):
    """SimCLR whose pairs forget their samples: each query's own other view is among its negatives."""

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        return [
            dataclasses.replace(pairs, index=torch.full_like(pairs.index, UNKNOWN)) for pairs in super().pairs(batch)
        ]
