"""A backbone for the world outside: weights under the library's own names, and a card that says what they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from contrast.evaluation.results import write_json
from contrast.models import Backbone

__all__ = ["export"]


def export(backbone: Backbone, card: Mapping[str, Any], folder: Path) -> Path:
    """Write ``backbone.safetensors`` and ``card.json``; the weights' path.

    Args:
        backbone: its ``plain_state_dict`` is written, bit for bit.
        card: what is known of the weights, as JSON; the backbone's own description goes in beside it.
        folder: made if missing. Files of the same names are replaced, each whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "backbone.safetensors"
    staged = folder / f".{weights.name}.{os.getpid()}"
    # safetensors refuses tensors that share memory, and a network may well share some.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in backbone.plain_state_dict().items()}
    save_file(state, staged, metadata={"format": "pt"})
    write_json(folder / "card.json", {"backbone": backbone.describe(), **card})
    os.replace(staged, weights)
    return weights
