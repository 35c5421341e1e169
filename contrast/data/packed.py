"""Decoded images in one memory-mapped file, each with its checksum: what a packed cache is, and how it is read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import get_worker_info

from contrast.data.array_file import Array, require_file
from contrast.errors import InputError

__all__ = ["ROW", "PackedImages", "finish", "start"]

_MAGIC, _VERSION = b"contrast images\n", 1
_PREFIX = struct.Struct("<16sIQQ32s")  # magic, version, where the index is, its rows, the sha256 of all that follows
ROW = np.dtype([("offset", "<u8"), ("channels", "u1"), ("height", "<u4"), ("width", "<u4"), ("crc32", "<u4")])
"""One image in the index: where its pixels begin, its shape, and the checksum of its bytes."""


class PackedImages:
    """The images of a packed cache; any number of processes may read one file at once.

    The file is a prefix, the pixels (uint8, channels first, one image behind the other), an index of them and a few
    facts as JSON; nothing in it could run. Prefix and index are verified now; each image's checksum when one of this
    process and its workers reads it first.

    Args:
        path: the file.

    Attributes:
        facts: what the writer noted.

    Raises:
        InputError: for a file that is damaged, of another version or something else; from an item, for pixels that
            are not those that were written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._rows, self.facts, self._digest = _read_index(path)
        self._pixels = np.memmap(path, np.uint8, "r")
        # Shared, so that what one worker has verified no other does again, in this epoch or a later one.
        flags = torch.zeros(len(self._rows), dtype=torch.bool)
        self._verified: Tensor = flags.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it unannotated

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> UInt8[Tensor, "c h w"]:
        image = torch.empty(self._shape(index), dtype=torch.uint8)
        self._read(index, image)
        return image

    def stacked(self, index: Sequence[int]) -> UInt8[Tensor, "b c h w"] | None:
        """Images that are of one shape as one batch, each copied once; None where they are not."""
        shapes = {self._shape(each) for each in index}
        if len(shapes) != 1:
            return None
        images = _handed_over((len(index), *shapes.pop()))
        for each, image in zip(index, images, strict=True):
            self._read(each, image)
        return images

    def _shape(self, index: int) -> tuple[int, int, int]:
        row = self._rows[index]
        return int(row["channels"]), int(row["height"]), int(row["width"])

    def _read(self, index: int, image: Tensor) -> None:
        pixels, start = image.numpy().reshape(-1), int(self._rows["offset"][index])
        pixels[:] = self._pixels[start : start + len(pixels)]
        if not self._verified[index]:
            if zlib.crc32(pixels.data) != self._rows["crc32"][index]:
                raise _damaged(self.path, f"the checksum of image {index} differs")
            self._verified[index] = True

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pixels": None}  # a pickled memory map is the whole file

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if _read_index(self.path)[2] != self._digest:
            raise InputError(f"the packed cache {self.path!r} was replaced while it was in use: start the run again")
        self._pixels = np.memmap(self.path, np.uint8, "r")


def _handed_over(shape: tuple[int, ...]) -> Tensor:
    """Uninitialised bytes; of a loader's worker in the memory that it shares with the main process: no copy more."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    # As torch's own collation does, which leaves it unannotated.
    shared: torch.UntypedStorage = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(shared).view(shape)


def start(file: BinaryIO) -> int:
    """Leave room for the prefix of a new cache; where the first image's pixels go."""
    return file.write(bytes(_PREFIX.size))


def finish(file: BinaryIO, rows: Sequence[tuple[int, ...]], facts: Mapping[str, Any]) -> None:
    """Write index and facts behind the pixels, then the prefix, and see that all of it is on the disk."""
    index = np.array(rows, ROW).tobytes() + json.dumps(facts).encode()
    place = file.tell()
    file.write(index)
    file.seek(0)
    file.write(_PREFIX.pack(_MAGIC, _VERSION, place, len(rows), hashlib.sha256(index).digest()))
    file.flush()
    os.fsync(file.fileno())


def _read_index(path: str) -> tuple[Array, dict[str, Any], bytes]:
    """Array, facts and the digest of both."""
    require_file(path)
    try:
        with Path(path).open("rb") as file:
            place, count, digest = _read_prefix(file.read(_PREFIX.size), path)
            size = os.fstat(file.fileno()).st_size
            file.seek(min(place, size))
            index = file.read()
    except OSError as error:
        raise InputError(f"the packed cache {path!r} cannot be read: {error.strerror}") from error
    if hashlib.sha256(index).digest() != digest or len(index) < count * ROW.itemsize:
        raise _damaged(path, f"of its {size:,} bytes the index is cut or changed")
    rows: Array = np.frombuffer(index, ROW, count)
    ends = rows["offset"].astype(float) + rows["channels"].astype(float) * rows["height"] * rows["width"]
    if count and ends.max() > place:
        raise _damaged(path, "an image lies outside the file")
    return rows, json.loads(index[count * ROW.itemsize :]), digest


def _read_prefix(prefix: bytes, path: str) -> tuple[int, int, bytes]:
    if not prefix.startswith(_MAGIC):
        raise InputError(f"{path!r} is no packed cache, and is not overwritten: give another `cache`")
    if len(prefix) < _PREFIX.size:
        raise _damaged(path, "it is cut")
    _, version, place, count, digest = _PREFIX.unpack(prefix)
    if version != _VERSION:
        raise InputError(f"the packed cache {path!r} is of version {version}, not {_VERSION}: remove it")
    return place, count, digest


def _damaged(path: str, how: str) -> InputError:
    return InputError(f"the packed cache {path!r} is damaged ({how}): remove it, and the next start packs it anew")
