"""A backbone for the world outside: weights under the library's own names, and a card that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from contrast.arguments import checked
from contrast.errors import InputError
from contrast.evaluation.results import write_json
from contrast.models import Backbone
from contrast.whole_file import whole_file

__all__ = ["export"]


@checked
def export(backbone: Backbone, card: Mapping[str, Any], folder: str | Path) -> Path:
    """Write ``backbone.safetensors`` and ``card.json``; the weights' path.

    Args:
        backbone: its ``plain_state_dict`` is written, bit for bit.
        card: what is known of the weights, as JSON; the backbone's own description goes in beside it.
        folder: made if missing. Files of the same names are replaced, each whole; no card is ever beside other weights.

    Raises:
        InputError: where a weight is not finite.
    """
    folder = Path(folder)
    weights, about = folder / "backbone.safetensors", folder / "card.json"
    # safetensors refuses tensors that share memory, and a network may well share some.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in backbone.plain_state_dict().items()}
    spoilt = next((name for name, tensor in state.items() if not bool(tensor.isfinite().all())), None)
    if spoilt is not None:
        raise InputError(
            f"weights {spoilt!r} hold NaN or infinity, and are of no use to anybody: export another checkpoint"
        )
    with whole_file(about) as new_card, whole_file(weights) as part:
        save_file(state, part, metadata={"format": "pt"})
        write_json(new_card, {"backbone": backbone.describe(), **card})
        about.unlink(missing_ok=True)  # the new weights come first: a process that is killed leaves no card, or theirs
    return weights
