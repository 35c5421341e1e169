"""The methods beside SimCLR and MoCo, made small."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from contrast.banks import KeyQueue
from contrast.data.batch import Batch
from contrast.methods import BYOL, NNCLR, ContrastiveMethod, MoCoV3, SimSiam, TwoView
from contrast.models import ConvNet, MLPHead

HEAD = partial(MLPHead, hidden_width=16, output_width=8)
SMALL: dict[str, Callable[..., ContrastiveMethod]] = {
    "TwoView": partial(TwoView, head=HEAD),
    "NNCLR": partial(NNCLR, head=HEAD, predictor=HEAD, bank=lambda width: KeyQueue(width, 24)),
    "MoCoV3": partial(MoCoV3, head=HEAD, predictor=HEAD),
    "SimSiam": partial(SimSiam, head=HEAD, predictor=HEAD),
    "BYOL": partial(BYOL, head=HEAD, predictor=HEAD),
}


def small(name: str, **arguments: Any) -> Any:
    """One of them, of weights that are functions of nothing."""
    torch.manual_seed(0)
    return SMALL[name](ConvNet((4, 8), channels=1, image_size=8), **arguments)


def batch(seed: int, count: int = 8, start: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views: tuple[Tensor, ...] = tuple(torch.randn(count, 1, 8, 8, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(start, start + count))
