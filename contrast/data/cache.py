"""Packed cache: one file with all decoded images of an image folder."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from contrast.data.arrays import Array, require_file
from contrast.data.decode import CorruptImageError, pixels_of, read_image
from contrast.data.sources import file_state
from contrast.errors import InputError
from contrast.runs.files import whole_file

__all__ = ["ROW", "PackedImages", "caches_only_read", "finish", "packed_images", "start"]

_MAGIC, _VERSION = b"contrast images\n", 1
_PREFIX = struct.Struct("<16sIQQ32s")  # magic, version, index offset, row count, sha256 of the rest
ROW = np.dtype([("offset", "<u8"), ("channels", "u1"), ("height", "<u4"), ("width", "<u4"), ("crc32", "<u4")])
"""One image in the index: offset of its pixels, its shape, and the checksum of its bytes."""


class PackedImages:
    """Images of a packed cache; any number of processes may read one file at the same time.

    The file consists of a prefix, the pixels (uint8, channels first, one image after another), an index of the images,
    and metadata as JSON. Nothing in it can be executed. The constructor verifies prefix and index. The checksum of an
    image is verified when this process or one of its workers reads the image for the first time.

    Args:
        path: the file.

    Attributes:
        facts: metadata from the writer.

    Raises:
        InputError: for a damaged file, another version, or another kind of file. When an item is read: if its pixels
            changed since they were written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._rows, self.facts, self._digest = _read_index(path)
        self._pixels = np.memmap(path, np.uint8, "r")
        # Shared memory: no worker verifies an image again that another has verified, in this or a later epoch.
        flags = torch.zeros(len(self._rows), dtype=torch.bool)
        self._verified: Tensor = flags.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it unannotated

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> UInt8[Tensor, "c h w"]:
        image = torch.empty(self._shape(index), dtype=torch.uint8)
        self._read(index, image)
        return image

    def stacked(self, index: Sequence[int]) -> UInt8[Tensor, "b c h w"] | None:
        """Images of one shape as one batch, with one copy per image; None if their shapes differ."""
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
        return self.__dict__ | {"_pixels": None}  # pickling a memory map would copy the whole file

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if _read_index(self.path)[2] != self._digest:
            raise InputError(f"the packed cache {self.path!r} was replaced while it was in use: start the run again")
        self._pixels = np.memmap(self.path, np.uint8, "r")


def _handed_over(shape: tuple[int, ...]) -> Tensor:
    """Uninitialised uint8 tensor; a loader's worker allocates it in shared memory, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    # torch's collate function allocates in the same way; it is not annotated.
    shared: torch.UntypedStorage = torch.UntypedStorage._new_shared(math.prod(shape))  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(shared).view(shape)


def start(file: BinaryIO) -> int:
    """Reserve space for the prefix of a new cache, and return the offset of the first image's pixels."""
    return file.write(bytes(_PREFIX.size))


def finish(file: BinaryIO, rows: Sequence[tuple[int, ...]], facts: Mapping[str, Any]) -> None:
    """Write index and metadata after the pixels, then the prefix, and flush everything to the disk.

    Args:
        file: the cache, positioned after the last pixel.
        rows: one row per image, as in `ROW`.
        facts: metadata for JSON.
    """
    index = np.array(rows, ROW).tobytes() + json.dumps(facts).encode()
    place = file.tell()
    file.write(index)
    file.seek(0)
    file.write(_PREFIX.pack(_MAGIC, _VERSION, place, len(rows), hashlib.sha256(index).digest()))
    file.flush()
    os.fsync(file.fileno())


def _read_index(path: str) -> tuple[Array, dict[str, Any], bytes]:
    """Index, metadata, and the digest of both."""
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
        raise _damaged(path, f"the index of the {size:,} bytes is cut off or changed")
    rows: Array = np.frombuffer(index, ROW, count)
    ends = rows["offset"].astype(float) + rows["channels"].astype(float) * rows["height"] * rows["width"]
    if count and ends.max() > place:
        raise _damaged(path, "an image lies outside the file")
    return rows, json.loads(index[count * ROW.itemsize :]), digest


def _read_prefix(prefix: bytes, path: str) -> tuple[int, int, bytes]:
    if not prefix.startswith(_MAGIC):
        raise InputError(f"{path!r} is not a packed cache and will not be overwritten: give another `cache`")
    if len(prefix) < _PREFIX.size:
        raise _damaged(path, "it is cut")
    _, version, place, count, digest = _PREFIX.unpack(prefix)
    if version != _VERSION:
        raise InputError(f"the packed cache {path!r} has version {version}, not {_VERSION}: remove it")
    return place, count, digest


def _damaged(path: str, how: str) -> InputError:
    return InputError(f"the packed cache {path!r} is damaged ({how}): remove it, and the next run packs it again")


_log = logging.getLogger(__name__)
_only_read = ContextVar("only_read", default=False)
_AT_ONCE = 64  # images decoded before they are written: bounds the memory use if the disk is slow


def packed_images(
    cache: str, root: str, paths: Sequence[str], size: int | None, skip: bool, full_checksum: bool = False
) -> PackedImages:
    """Open the packed cache of image files; it is written first if it is missing or the files have changed.

    If several processes start at once, one process writes the cache and the others wait. In `facts`, `skipped` lists
    the position in `paths` and the reason for each image that was left out.

    Args:
        cache: path of the cache file.
        root: folder that contains the paths.
        paths: one path per image.
        size: shorter side to which larger images are reduced; None keeps their size.
        skip: whether to leave out images that do not decode.
        full_checksum: whether to detect changed files by all their bytes instead of size and modification time.

    Raises:
        InputError: if the cache is damaged, is not a cache, or cannot be written, and for an image that does not
            decode.
    """
    source = {"files": _fingerprint(root, paths, full_checksum), "size": size}
    found = _current(cache, source, say=False)
    if found is None and _only_read.get():
        raise InputError(
            f"the packed cache {cache!r} is missing or out of date, and a configuration from a run folder or "
            "checkpoint must not write one: add --trust to write it"
        )
    if found is None:
        with _locked(cache):
            found = _current(cache, source, say=True)  # another process may have written the cache by now
            if found is None:
                _pack(cache, paths, source, skip)
                found = PackedImages(cache)
    if found.facts["skipped"] and not skip:
        place, reason = found.facts["skipped"][0]
        raise _does_not_decode(paths[place], reason)
    return found


@contextlib.contextmanager
def caches_only_read() -> Iterator[None]:
    """Context manager in which a missing or outdated cache raises an error instead of being written.

    Used if the path of the cache comes from a file, for example a run folder or a checkpoint.
    """
    token = _only_read.set(True)
    try:
        yield
    finally:
        _only_read.reset(token)


def _fingerprint(root: str, paths: Sequence[str], full: bool) -> str:
    digest = hashlib.sha256()
    if full:
        digest.update(b"all bytes of each file\n")
        for path in paths:
            digest.update(f"{os.path.relpath(path, root)}\0".encode(errors="surrogateescape"))
            digest.update(file_state(path, times=False, full=True))
        return digest.hexdigest()
    for path in paths:
        try:
            state = os.stat(path)
            about = f"{state.st_size} {state.st_mtime_ns}"
        except OSError:  # a broken link raises later, when the image is read
            about = "none"
        digest.update(f"{os.path.relpath(path, root)}\0{about}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _current(cache: str, source: dict[str, Any], say: bool) -> PackedImages | None:
    if not os.path.lexists(cache):
        return None
    found = PackedImages(cache)
    if found.facts["source"] == source:
        return found
    if say:
        same = found.facts["source"]["files"] == source["files"]
        changed = "cache_size changed" if same else "files were added, removed or changed"
        _log.warning("the packed cache %r is out of date (%s) and is packed again", cache, changed)
    return None


def _pack(cache: str, paths: Sequence[str], source: dict[str, Any], skip: bool) -> None:
    path, rows, skipped = Path(cache), [], []
    written = 0
    try:
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):  # left by killed processes
            part.unlink(missing_ok=True)
        with whole_file(path) as part, part.open("wb") as file:
            written = start(file)
            for place, image in enumerate(_decoded(paths, source["size"])):
                if isinstance(image, Tensor):
                    rows.append((written, *image.shape, zlib.crc32(image.numpy().data)))
                    written += file.write(image.numpy().data)
                elif skip:
                    skipped.append((place, image))
                else:
                    raise _does_not_decode(paths[place], image)
            finish(file, rows, {"source": source, "skipped": skipped})
    except OSError as error:
        raise InputError(
            f"the packed cache {cache!r} cannot be written ({error.strerror}, after {written / 1e9:.1f} GB): "
            "make room, give another `cache`, or a smaller `cache_size`"
        ) from error


def _decoded(paths: Sequence[str], size: int | None) -> Iterator[Tensor | str]:
    """Each image's pixels in order, or the reason why they do not decode; in threads, as Pillow releases the GIL."""
    with (
        ThreadPool(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(paths), desc="packing images", unit="image", delay=2, leave=False) as bar,
    ):
        for first in range(0, len(paths), _AT_ONCE):
            for image in pool.map(lambda path: _pixels(path, size), paths[first : first + _AT_ONCE]):
                yield image
                bar.update()


def _pixels(path: str, size: int | None) -> Tensor | str:
    try:
        pixels = pixels_of(read_image(path))
    except CorruptImageError as error:
        return str(error)
    except InputError as error:
        return str(error)
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    if size is not None and min(image.shape[1:]) > size:
        image = transforms.resize(image, [size], antialias=True)
    return image.contiguous()


def _does_not_decode(path: str, reason: str) -> InputError:
    return InputError(f"{path!r} does not decode ({reason}): remove the file, or set on_corrupt: skip")


@contextlib.contextmanager
def _locked(cache: str) -> Iterator[None]:
    """Lock that keeps other processes from packing the same cache; it is released when the process ends in any way."""
    path = Path(cache)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise InputError(f"the packed cache {cache!r} cannot be written ({error.strerror}): give another") from error
    with file:
        _wait_for(file.fileno(), cache)
        yield


def _wait_for(file: int, cache: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: each process packs the cache, and the last one is kept
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        _log.warning("waiting for another process, which is packing %r", cache)
        fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks: the same as on Windows
        return
