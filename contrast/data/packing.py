"""Pack the images of a folder into one file: once, by one process, again when the folder has changed."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms
from tqdm import tqdm

from contrast.data.decode import pixels_of
from contrast.data.image_file import CorruptImageError, read_image
from contrast.data.packed import PackedImages, finish, start
from contrast.data.sources import file_state
from contrast.errors import InputError
from contrast.whole_file import whole_file

__all__ = ["caches_only_read", "packed_images"]

_log = logging.getLogger(__name__)
_only_read = ContextVar("only_read", default=False)
_AT_ONCE = 64  # images decoded before any is written: what a slow disk may leave in memory


def packed_images(
    cache: str, root: str, paths: Sequence[str], size: int | None, skip: bool, full_checksum: bool = False
) -> PackedImages:
    """The images of these files from the cache, which is written first if there is none or the files have changed.

    Where several processes start at once, one writes and the others wait. Its facts hold `skipped`, the place in
    `paths` and the reason of each image left out.

    Args:
        cache: the file.
        root: what the paths are under.
        paths: one an image.
        size: shorter side to which larger images are reduced; None keeps them as they are.
        skip: whether to leave out what does not decode.
        full_checksum: whether a file has changed is told by all its bytes, in place of its size and time.

    Raises:
        InputError: where the cache is damaged, no cache or cannot be written, and for what does not decode.
    """
    source = {"files": _fingerprint(root, paths, full_checksum), "size": size}
    found = _current(cache, source, say=False)
    if found is None and _only_read.get():
        raise InputError(
            f"the packed cache {cache!r} is missing or out of date, and a configuration out of a run folder or "
            "checkpoint does not write one: add --trust to write it"
        )
    if found is None:
        with _alone(cache):
            found = _current(cache, source, say=True)  # another process may have written it meanwhile
            if found is None:
                _pack(cache, paths, source, skip)
                found = PackedImages(cache)
    if found.facts["skipped"] and not skip:
        place, reason = found.facts["skipped"][0]
        raise _does_not_decode(paths[place], reason)
    return found


@contextlib.contextmanager
def caches_only_read() -> Iterator[None]:
    """Within this, a cache that is missing or out of date is refused, not written: its path came out of a file."""
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
        except OSError:  # a link that leads nowhere: reading it says so
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
        changed = "cache_size is another one" if same else "files were added, removed or changed"
        _log.warning("the packed cache %r is out of date (%s) and is packed anew", cache, changed)
    return None


def _pack(cache: str, paths: Sequence[str], source: dict[str, Any], skip: bool) -> None:
    path, rows, skipped = Path(cache), [], []
    written = 0
    try:
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):  # of processes that were killed
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
    """Each image's pixels, or why there are none, in order; Pillow lets go of the interpreter while it decodes."""
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
def _alone(cache: str) -> Iterator[None]:
    """While this lasts no other process packs this cache; a process that ends, however it does, lets go."""
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
    except ImportError:  # Windows: each process packs its own, and the last one's stays
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        _log.warning("waiting for another process, which is packing %r", cache)
        fcntl.lockf(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks: as on Windows
        return
