"""Named arrays of an ``.npz`` and memory-mapped ones of an ``.npy``; what is wrong with a file, in one line."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from contrast.errors import InputError, did_you_mean

__all__ = ["Array", "map_array", "read_arrays", "require_file"]

Array = npt.NDArray[Any]

_READING_ERRORS = (ValueError, EOFError, zipfile.BadZipFile, zlib.error)

_OBJECTS = (
    "it holds pickled objects in place of numbers, which are never loaded: give series of unequal length as one array "
    "padded with NaN at their ends, or as a .ts file, texts by array.astype(str)"
)


def require_file(path: str) -> None:
    """Raise InputError for a pipe or a device, which may have no end; what is not there is left to the reader."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError(f"{path!r} is a pipe or a device: give a file")


def map_array(path: str, samples: str) -> Array:
    """The array of an ``.npy``, memory-mapped.

    Args:
        path: the file.
        samples: what it holds, for messages, say "images".

    Raises:
        InputError: for a missing or damaged file, and one with pickled objects.
    """
    require_file(path)
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise _unreadable(path, samples, error) from error
    except _READING_ERRORS as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path!r}: {_OBJECTS}") from error
        raise InputError(f"{path!r} is no whole .npy file of numbers ({error}): write it by numpy.save") from error
    return array


def read_arrays(path: str, names: Sequence[str], samples: str) -> list[Array]:
    """The arrays of these names in an ``.npz``.

    Args:
        path: the file. Pickled objects in it are never loaded.
        names: of the arrays.
        samples: what they hold, for messages.

    Raises:
        InputError: for a missing or damaged file, and a name that is not in it.
    """
    if not path.lower().endswith(".npz"):
        raise InputError(f"{path!r} is neither .npz nor .npy: write it by numpy.savez(path, {samples}=..., labels=...)")
    require_file(path)
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return [_named(archive, name, path) for name in names]
    except OSError as error:
        raise _unreadable(path, samples, error) from error
    except InputError:
        raise
    except _READING_ERRORS as error:
        if "Object arrays" in str(error):
            raise InputError(f"{path!r}: {_OBJECTS}") from error
        raise InputError(f"{path!r} is no whole .npz file of numbers ({error}): write it by numpy.savez") from error


def _named(archive: np.lib.npyio.NpzFile, name: str, path: str) -> Array:
    if name not in archive.files:
        none = "; without labels, set labels: null" if name == "labels" else ""
        setting = f"; name the array that holds them, as in {name}: {archive.files[0]}" if archive.files else ""
        raise InputError(f"{path!r} holds no array {name!r}{did_you_mean(name, archive.files)}{setting}{none}")
    array: Array = archive[name]
    return array


def _unreadable(path: str, samples: str, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"there is no file {path!r}: correct `path`, or put the {samples} there")
    return InputError(f"{path!r} cannot be read: {error.strerror}")
