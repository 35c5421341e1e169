"""contrast: contrastive self-supervised learning, for research on positives and negatives.

Names are loaded on first use, so that the command line starts without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrast import banks, losses, methods
    from contrast.pairs import Pairs, cross_pairs, in_batch_pairs, queue_pairs

__all__ = ["Pairs", "banks", "cross_pairs", "in_batch_pairs", "losses", "methods", "queue_pairs"]

_FROM_PAIRS = ("Pairs", "cross_pairs", "in_batch_pairs", "queue_pairs")


def __getattr__(name: str) -> Any:
    if name in _FROM_PAIRS:
        return getattr(importlib.import_module("contrast.pairs"), name)
    if name in __all__:
        return importlib.import_module(f"contrast.{name}")
    raise AttributeError(f"module 'contrast' has no attribute {name!r}")
