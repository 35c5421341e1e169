"""Images in a folder: one subfolder a class, or any arrangement without labels."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from contrast.arguments import checked
from contrast.data.decode import to_uint8
from contrast.data.image_file import CorruptImageError, read_image
from contrast.data.listing import list_images, refuse_empty_classes
from contrast.data.packed import PackedImages
from contrast.data.packing import packed_images
from contrast.data.sources import Content, file_states
from contrast.errors import InputError

__all__ = ["ImageFolder"]

_log = logging.getLogger(__name__)


class ImageFolder(Dataset[tuple[Image.Image | Tensor, int | None]]):
    """The images under a folder in natural order (2 before 10), with the class each one's folder stands for.

    With classes, ``root/class/**/image``; without, ``root/**/image`` and every label is None. Names that begin with
    a dot, and files that are no images by their extension, are passed over; links are followed. Folders of runs, and
    those of archive programs (``__MACOSX``) and file systems, are passed over too, and a line names them.

    Args:
        root: the folder.
        class_folders: whether root's subfolders are classes; None decides by looking: they are if root itself holds
            no image but at least one subfolder.
        on_corrupt: "error" raises when a damaged file is reached. "skip" reads every file once now, in threads, and
            leaves out those that do not decode.
        cache: a file for the decoded images, made at the first start and when files have changed; None decodes each
            image whenever it is asked for. With it items are uint8 tensors, of the same pixels.
        cache_size: shorter side to which the cache reduces larger images; None keeps them as they are.
        full_checksum: whether caches and protocols know the files by all their bytes, which are then read at each
            start, or by name, size and modification time.

    Attributes:
        paths: one a sample.
        labels: one a sample, or None.
        classes: names in the order of their labels; empty without classes.
        skipped: (path, reason) of each file left out.

    Raises:
        InputError: for a missing or empty folder, a class folder without an image, splits where classes should be;
            from an item, for a file that does not decode; where a cache is damaged or cannot be written.
    """

    @checked
    def __init__(
        self,
        root: str | Path,
        class_folders: bool | None = None,
        on_corrupt: Literal["error", "skip"] = "error",
        cache: str | Path | None = None,
        cache_size: int | None = None,
        full_checksum: bool = False,
    ) -> None:
        self.root = str(Path(root).expanduser())
        self.paths, self.labels, self.classes = list_images(self.root, class_folders)
        self.cache_size, self.full_checksum = cache_size, full_checksum
        self.skipped: list[tuple[str, str]] = []
        self._packed: PackedImages | None = None
        if cache_size is not None and (cache is None or cache_size < 1):
            raise InputError(f"cache_size {cache_size} is of a cache's images in pixels: give `cache`, and 1 or more")
        if cache is not None:
            skip = on_corrupt == "skip"
            self._packed = packed_images(
                str(Path(cache).expanduser()), self.root, self.paths, cache_size, skip, full_checksum
            )
            self._leave_out(dict(self._packed.facts["skipped"]))
        elif on_corrupt == "skip":
            self._leave_out(_damaged(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Image.Image | Tensor, int | None]:
        return self._image(index), None if self.labels is None else self.labels[index]

    def images_at(self, index: Sequence[int]) -> UInt8[Tensor, "b c h w"] | None:
        """Images of the cache in one call, where they are of one shape; else None."""
        return None if self._packed is None else self._packed.stacked(index)

    def content(self, index: Sequence[int], times: bool) -> Content:
        """State or bytes of these files, and the size to which a cache has reduced their images."""
        found = file_states([self.paths[place] for place in index], times, self.full_checksum)
        reduced = f"reduced to {self.cache_size} pixels\n".encode() if self.cache_size is not None else b""
        return Content(found.words, itertools.chain([reduced], found.parts))

    def _image(self, index: int) -> Image.Image | Tensor:
        if self._packed is not None:
            return self._packed[index]
        path = self.paths[index]
        try:
            return read_image(path)
        except CorruptImageError as error:
            raise InputError(f"{path!r} does not decode ({error}): remove the file, or set on_corrupt: skip") from error

    def _leave_out(self, reasons: dict[int, str]) -> None:
        """Go on without the samples at these places."""
        self.skipped = [(self.paths[place], reason) for place, reason in reasons.items()]
        if self.skipped:
            _say_what_was_skipped(self.root, self.skipped, len(self.paths))
        self.paths = [path for place, path in enumerate(self.paths) if place not in reasons]
        if self.labels is not None:
            self.labels = [label for place, label in enumerate(self.labels) if place not in reasons]
            refuse_empty_classes(self.root, self.classes, self.labels, "image that decodes")


def _damaged(paths: list[str]) -> dict[int, str]:
    """Why an image does not decode, by its place; Pillow lets go of the interpreter meanwhile, so that threads help."""
    with ThreadPool(min(16, os.cpu_count() or 1)) as pool:
        reasons = pool.imap(_reason_to_skip, paths, chunksize=16)
        # The bar shows on stderr, and only if there is something to wait for.
        shown = tqdm(reasons, "reading every image once", len(paths), unit="image", delay=2, leave=False)
        return {place: reason for place, reason in enumerate(shown) if reason is not None}


def _reason_to_skip(path: str) -> str | None:
    try:
        image = read_image(path)
    except CorruptImageError as error:
        return str(error)
    try:
        to_uint8(image, channels=3)
    except InputError as error:
        return str(error)
    return None


def _say_what_was_skipped(root: str, skipped: list[tuple[str, str]], count: int) -> None:
    first = [f"{os.path.relpath(path, root)}: {reason}" for path, reason in skipped[:3]]
    more = [f"and {len(skipped) - 3} more"] if len(skipped) > 3 else []
    listed = "; ".join(first + more)
    if len(skipped) == count:
        raise InputError(f"none of the {count} images in {root!r} decodes ({listed}): give a folder of whole images")
    _log.warning("%d of %d images in %r do not decode and are left out (%s)", len(skipped), count, root, listed)
