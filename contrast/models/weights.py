"""Weights from elsewhere into a backbone: other people's checkpoints, and our own."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from contrast.errors import InputError, did_you_mean
from contrast.models.backbone import Backbone

__all__ = ["Layout", "load_weights"]

Layout = Literal["auto", "plain", "moco", "moco_v3", "lightning"]

_PREFIXES = {"moco": "encoder_q.", "moco_v3": "base_encoder.", "lightning": "backbone.", "plain": ""}
_HEADS = ("fc.", "head.", "head_dist.", "classifier.", "projector.", "predictor.")
_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how a torch.save file starts, now and once


# What torch's unpickler was seen to raise on files that were cut or had bytes changed.
_UNREADABLE = (
    *(SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, struct.error),
)


def load_weights(backbone: Backbone, path: Path, layout: Layout = "auto") -> list[str]:
    """Fill `backbone` from a file; whatever is not a classifier or a projection head must fit exactly.

    The file is ``.safetensors`` or of `torch.save`, its state dict bare or under "state_dict" or "model". Layouts, each
    with or without DistributedDataParallel's ``module.``:

    - moco: MoCo v1 and v2, the query encoder (``encoder_q.``);
    - moco_v3: MoCo v3, the base encoder (``base_encoder.``);
    - lightning: checkpoints of this package (``backbone.``);
    - plain: torchvision, timm and what this package exports;
    - auto: the first of these that has any name in the file.

    Nothing is unpickled but tensors and plain containers (``weights_only=True``).

    Args:
        backbone: filled in place.
        path: the file.
        layout: how its names are to be read.

    Returns:
        The names in the file that were left out: other networks, queues, classifiers, projection heads.

    Raises:
        InputError: where the file is missing, broken, holds anything but tensors and plain containers, or does not fit;
            nothing is loaded then.
    """
    content = _state(_read(path), path)
    if layout == "auto":
        layout = next(each for each in ("moco", "moco_v3", "lightning", "plain") if _select(content, each))
    chosen = _select(content, layout)
    if not chosen:
        raise InputError(f"weights {str(path)!r}: no name begins with {_PREFIXES[layout]!r}: give layout auto")
    target = backbone if layout == "lightning" else backbone.plain_module
    own: dict[str, Tensor] = dict(target.state_dict())
    # A network may well keep part of what it calls its head (ConvNeXt's last norm), so its own names come first.
    fitting = {name: key for name, key in chosen.items() if name in own or not name.startswith(_HEADS)}
    given = {name: content[key] for name, key in fitting.items()}
    for name in own.keys() - given.keys():
        if name.endswith("num_batches_tracked"):  # a counter that files from before torch 0.4.1 lack, and nothing needs
            given[name] = own[name]
    _check(given, own, f"weights {str(path)!r} do not fit {backbone.describe()['architecture']}")
    target.load_state_dict(given)
    used = set(fitting.values())
    return [key for key in content if key not in used]


def _select(content: Mapping[str, Tensor], layout: str) -> dict[str, str]:
    """The layout's names, without its prefix, and the name that each has in the file."""
    if layout not in _PREFIXES:
        raise InputError(f"no layout {layout!r} of weights{did_you_mean(layout, ['auto', *_PREFIXES])}")
    prefix, stripped = _PREFIXES[layout], {key.removeprefix("module."): key for key in content}
    return {name.removeprefix(prefix): key for name, key in stripped.items() if name.startswith(prefix)}


def _check(given: Mapping[str, Tensor], own: Mapping[str, Tensor], failure: str) -> None:
    missing = sorted(own.keys() - given.keys())
    unexpected = sorted(given.keys() - own.keys())
    reshaped = [
        f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    complaints = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if complaints:
        mend = "set name, stem, base_width, channels and image_size to those they were made with, or the layout"
        raise InputError(f"{failure}: {'; '.join(complaints)}: {mend}")


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what was read; what is no tensor in it (extra state of metrics) counts for nothing."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = content.items() if isinstance(content, Mapping) else ()
    state = {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        raise InputError(f"weights {str(path)!r} hold no state dict: save network.state_dict() alone")
    return state


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"no weights file {str(path)!r}: give the path of a .safetensors file or a torch checkpoint")
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY))
    safe = path.suffix == ".safetensors"
    if not safe and not start.startswith((_ZIP, _LEGACY)):
        raise InputError(f"weights {str(path)!r} are no file of torch.save, nor named .safetensors")
    try:
        return load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        if isinstance(error, UnpicklingError) and "global" in reason.lower():
            raise InputError(
                f"weights {str(path)!r} hold more than tensors and plain containers, and unpickling that could run any "
                "code: where you trust the file, save network.state_dict() alone"
            ) from error
        raise InputError(f"weights {str(path)!r} cannot be read, they may be cut short: {reason[:120]}") from error
