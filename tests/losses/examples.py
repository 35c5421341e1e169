"""Rows and pairs that the tests of losses share: unit rows in float64, functions of a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.losses import (
    DCL,
    DCLW,
    HCL,
    AdaptiveTemperature,
    Debiased,
    FalseNegativeAttraction,
    FalseNegativeRemoval,
    HardestNegative,
    HardNegativeMixing,
    InfoNCE,
    LearnedTemperature,
    NegativeInterpolation,
    Objective,
    PairTransform,
    PositiveExtrapolation,
    SameClassRemoval,
)

LABELS = torch.arange(100) % 3
"""The class of sample i."""

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "InfoNCE": InfoNCE,
    "DCL": DCL,
    "DCLW": DCLW,
    "Debiased": Debiased,
    "HCL": HCL,
    "HardestNegative": HardestNegative,
    "HardestNegative, positive competes": lambda: HardestNegative(positive_competes=True),
}


def _mixing() -> HardNegativeMixing:
    return HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)


TRANSFORMS: dict[str, Callable[[], Sequence[PairTransform]]] = {
    "none": lambda: [],
    "mixing": lambda: [_mixing()],
    "extrapolation": lambda: [PositiveExtrapolation(each="dimension")],
    "interpolation": lambda: [NegativeInterpolation(each="row")],
    "all": lambda: [_mixing(), PositiveExtrapolation(), NegativeInterpolation(each="dimension")],
    "all, mixed last": lambda: [NegativeInterpolation(), PositiveExtrapolation(each="pair"), _mixing()],
    "oracle and mixing": lambda: [SameClassRemoval(LABELS), _mixing()],
    "removal": lambda: [FalseNegativeRemoval(most=1, threshold=-1.0)],
    "attraction and mixing": lambda: [FalseNegativeAttraction(most=1, threshold=0.2), _mixing()],
}


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def in_batch(seed: int, count: int, width: int = 6, heads: int = 0) -> Pairs:
    """Both directions of `count` samples."""
    shape = (*([heads] if heads else []), count, width)
    return in_batch_pairs(rows(seed, *shape), rows(seed + 1, *shape), torch.arange(count))


def against_queue(seed: int, count: int, size: int, width: int = 6, heads: int = 0, real: int | None = None) -> Pairs:
    """`count` queries against a queue that holds two of their own samples and ends in placeholders."""
    front = [heads] if heads else []
    real = size - 1 if real is None else real
    place = torch.arange(size)
    key_index = torch.where(place < real, place + count - 2, -1)
    query, key = rows(seed, *front, count, width), rows(seed + 1, *front, count, width)
    keys = rows(seed + 2, *front, size, width)
    return queue_pairs(query, key, keys, torch.arange(count), key_index, placeholder=place >= real)


def with_gradient(pairs: Pairs) -> Pairs:
    """The same pairs with query, positive and negatives as leaves of their own."""
    names = ("query", "positive", "negatives")
    return dataclasses.replace(pairs, **{name: getattr(pairs, name).clone().requires_grad_() for name in names})


def learned() -> LearnedTemperature:
    return LearnedTemperature(0.3).double()


def adaptive(width: int = 6, beta: float = 0.01, form: Literal["concat", "product"] = "concat") -> AdaptiveTemperature:
    """Of small weights that are functions of nothing, and far enough from 0 that the τ of two pairs differ."""
    torch.manual_seed(0)
    temperature = AdaptiveTemperature(width, hidden_width=8, beta=beta, form=form).double()
    for parameter in temperature.parameters():
        parameter.data.mul_(2)
    return temperature
