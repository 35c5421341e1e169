"""Read the state dicts of a weights file without executing code from it."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from contrast.errors import InputError

__all__ = ["State", "read_states"]

State = dict[str, Tensor]

# The first bytes of a file in the new and in the old format of torch.save.
_ZIP, _LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_DEEPEST = 4  # nested mappings, as in {"model": {"state_dict": {...}}}

# Exceptions that torch's unpickler was seen to raise on truncated or corrupted files.
_UNREADABLE = (
    *(SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, struct.error, zipfile.BadZipFile, NotImplementedError),
)


class _Ignored:
    """Placeholder for an object that is not a tensor; no attribute of it is ever read."""

    def __init__(self, *given: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _IgnoredMapping:
    """Placeholder for a subclass of dict: the unpickler fills a plain dict instead."""

    def __new__(cls, *given: object) -> Any:
        return {}


# Settings and counters that checkpoints are known to hold beside their tensors. The unpickler makes a placeholder for
# each: it imports none of these modules and calls none of these functions.
_PLACEHOLDERS = (
    *("argparse.Namespace", "types.SimpleNamespace", "typing.Any", "datetime.datetime", "datetime.timedelta"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list", "int", "float", "str")),
    *(
        f"{module}.{flavour}Path"
        for module in ("pathlib", "pathlib._local")
        for flavour in ("Posix", "Windows", "PurePosix", "PureWindows")
    ),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype"),
    *(f"numpy.dtypes.{kind}{bits}DType" for kind in ("Int", "UInt", "Float") for bits in (8, 16, 32, 64)),
    *("numpy.dtypes.BoolDType", "numpy.bool_", "numpy.float64", "numpy.float32", "numpy.int64", "numpy.int32"),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Enum", "Float", "Integer", "Path", "String")),
)
_MAPPINGS = (
    "collections.defaultdict",
    *(
        f"{module}.AttributeDict"
        for module in (
            *("lightning.fabric.utilities.data", "lightning_fabric.utilities.data"),
            *("pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing"),
        )
    ),
)


def read_states(path: Path) -> dict[tuple[str, ...], State]:
    """Read every state dict in a weights file, by the keys that lead to it.

    The key is ``()`` for a bare state dict, and ``("model",)`` for a state dict under "model". Everything that is not a
    tensor (epochs, settings, optimiser states) is left out.

    Args:
        path: a ``.safetensors`` file, or a file written by `torch.save`.

    Returns:
        State dicts by their keys.

    Raises:
        InputError: if the file is missing or damaged, holds an object that is not on the list of harmless objects, or
            has no state dict.
    """
    states = dict(_states(_read(path), (), 0))
    if not states:
        raise InputError(f"weights {str(path)!r} hold no state dict: save network.state_dict() and nothing else")
    return states


def _states(content: Any, place: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], State]]:
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    state = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if state:
        yield place, state
    for name, value in named.items():
        yield from _states(value, (*place, name), depth + 1)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"no weights file {str(path)!r}: give the path of a .safetensors file or a torch checkpoint")
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY))
    safe = path.suffix == ".safetensors"
    if not safe and not start.startswith((_ZIP, _LEGACY)):
        raise InputError(f"weights {str(path)!r} are neither a file of torch.save nor named .safetensors")
    try:
        return load_file(path) if safe else _unpickled(path, start)
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        if isinstance(error, UnpicklingError) and "global" in reason.lower():
            _, _, named = reason.partition("GLOBAL ")
            raise InputError(
                f"weights {str(path)!r} hold {named.split(' ')[0] or 'an object'}, which is neither a tensor nor a "
                "plain container, and unpickling it could run any code: if you trust the file, save "
                "network.state_dict() and nothing else"
            ) from error
        raise InputError(f"weights {str(path)!r} cannot be read, they may be cut short: {reason[:120]}") from error


def _unpickled(path: Path, start: bytes) -> Any:
    if start.startswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            # torch never compresses. A compressed file of a kilobyte might expand until memory runs out.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its entries are compressed, which torch.save does not do")
    placeholders = [(_Ignored, name) for name in _PLACEHOLDERS] + [(_IgnoredMapping, name) for name in _MAPPINGS]
    with torch.serialization.safe_globals([*placeholders]):
        return torch.load(path, map_location="cpu", weights_only=True)
