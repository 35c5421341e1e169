"""Where an evaluation runs, and with what."""

from __future__ import annotations

from importlib.metadata import version

import torch

from contrast.arguments import checked
from contrast.errors import InputError

__all__ = ["choose_device", "made_with"]


@checked
def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" is CUDA where there is a card.

    Raises:
        InputError: for CUDA without a card.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device on this machine: give --device cpu")
    return torch.device(name)


@checked
def made_with(device: torch.device) -> dict[str, str]:
    """Device and versions, as JSON."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": hardware, "torch": torch.__version__, "contrast": version("contrast")}
