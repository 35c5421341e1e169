"""Image folders: list the files, and read one image per file."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets
from torchvision.datasets import DatasetFolder
from tqdm import tqdm

from contrast.checks import checked
from contrast.data.cache import PackedImages, packed_images
from contrast.data.decode import EXTENSIONS, CorruptImageError, read_image, to_uint8
from contrast.data.sources import Content, file_states
from contrast.errors import InputError

__all__ = [
    "TORCHVISION_FOLDERS",
    "ImageFolder",
    "list_images",
    "log_skipped_folders",
    "refuse_empty_classes",
    "skipped_folders",
    "torchvision_folder",
]

_log = logging.getLogger(__name__)

_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}

# Folders that archive programs and file systems create beside the data. Names that begin with a dot are always hidden.
_NOT_DATA = {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
# A run folder has config.yaml and one of these files. Pictures of `contrast duplicates` may lie outside a run folder.
_OF_A_RUN = (".lock", "status.json", "metrics.jsonl", "checkpoints")


def list_images(root: str, class_folders: bool | None) -> tuple[list[str], list[int] | None, list[str]]:
    """List the images of a folder: paths in natural order, one label per path or None, and the names of the classes.

    Args:
        root: a folder.
        class_folders: whether its subfolders are classes. None treats them as classes if the root itself has no image.

    Raises:
        InputError: if the folder does not exist, has no image, or has a class folder without an image. For subfolders
            called train, test or similar, unless `class_folders` is given.
    """
    files, folders = _list_folder(root)
    excluded: list[str] = []
    folders = [name for name in folders if not _is_skipped(os.path.join(root, name), excluded)]
    if class_folders is None:
        class_folders = bool(folders) and not files
        if class_folders:
            _refuse_splits(root, folders)
    elif class_folders and not folders:
        holds = f"only images, such as {files[0]!r}" if files else "no folder"
        raise InputError(
            f"class_folders is true, but {root!r} holds {holds}: make one folder per class, or set it to false"
        )
    classes = folders if class_folders else []
    groups = [list(_images_under(os.path.join(root, name), excluded)) for name in (classes or [""])]
    log_skipped_folders(root, excluded)
    if not any(groups) and not files:
        raise InputError(_no_image(root))
    paths = [path for group in groups for path in group]
    if not class_folders:
        return paths, None, []
    labels = [label for label, group in enumerate(groups) for _ in group]
    refuse_empty_classes(root, classes, labels, "image")
    return paths, labels, classes


def skipped_folders(root: str) -> list[str]:
    """All folders below the root that are not data: run folders, folders of runs, archive and file system folders."""
    excluded: list[str] = []
    if os.path.isdir(root):
        _find_skipped(root, excluded, frozenset())
    return excluded


_reported: set[tuple[str, ...]] = set()  # roots with their skipped folders that this process has already logged


def log_skipped_folders(root: str, folders: list[str]) -> None:
    """Log one line that names the skipped folders, once per process; nothing if there are none."""
    names = list(dict.fromkeys(os.path.relpath(folder, root) for folder in folders))
    if names and (root, *names) not in _reported:
        _reported.add((root, *names))
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        listed = ", ".join(names[:5])
        _log.warning("skipped in %r, because these folders hold runs or system files: %s%s", root, listed, more)


def _find_skipped(folder: str, excluded: list[str], above: frozenset[str]) -> None:
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        inside = sorted((entry for entry in entries if _is_folder(entry)), key=lambda entry: entry.name)
    for entry in inside:
        if entry.name.startswith("."):
            excluded.append(entry.path)
        elif not _is_skipped(entry.path, excluded):
            _find_skipped(entry.path, excluded, above | {here})


def _is_skipped(folder: str, excluded: list[str]) -> bool:
    """Whether a folder is not data; such a folder is added to `excluded`."""
    no_data = os.path.basename(folder).casefold() in _NOT_DATA or _is_run(folder) or _holds_only_runs(folder)
    if no_data:
        excluded.append(folder)
    return no_data


def _is_run(folder: str) -> bool:
    if os.path.isfile(os.path.join(folder, "config.yaml")):
        return any(os.path.exists(os.path.join(folder, name)) for name in _OF_A_RUN)
    return os.path.isfile(os.path.join(folder, "duplicates", "duplicates.json"))


def _holds_only_runs(folder: str, depth: int = 3) -> bool:
    """Whether a folder has run folders and no other visible content, as ``runs`` has, or folders of such folders."""
    found = False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not _is_folder(entry) or not (
                    _is_run(entry.path) or (depth and _holds_only_runs(entry.path, depth - 1))
                ):
                    return False
                found = True
    except OSError:  # the error is raised later, when the folder is read
        return False
    return found


def refuse_empty_classes(root: str, classes: list[str], labels: list[int], what: str) -> None:
    """Raise InputError if a class folder has no sample, naming the folders.

    Args:
        root: the image folder.
        classes: names of the class folders.
        labels: labels of all samples.
        what: noun for the missing samples in the message.
    """
    found = set(labels)
    empty = [repr(name) for label, name in enumerate(classes) if label not in found]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        noun = "class folder" if len(empty) == 1 else "class folders"
        raise InputError(
            f"{noun} {', '.join(empty[:5])}{more} in {root!r} without an {what}: put images there or remove the {noun}"
        )


def _list_folder(root: str) -> tuple[list[str], list[str]]:
    """Names of the images and of the folders directly in the root."""
    if not os.path.exists(root):
        raise InputError(f"there is no image folder {root!r}: correct `root`, or put the images there")
    if not os.path.isdir(root):
        raise InputError(f"{root!r} is a file, not a folder of images: give a folder, unpacked if this is an archive")
    entries = _visible(root)
    files = [entry.name for entry in entries if not _is_folder(entry) and _is_image(entry.name)]
    return files, [entry.name for entry in entries if _is_folder(entry)]


def _visible(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: _natural(e.name))
    except PermissionError as error:
        raise InputError(f"the folder {folder!r} cannot be read: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # entry.is_dir() raises for a link to itself; os.path.isdir returns False.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _natural(name: str) -> tuple[list[str | int], str]:
    # Parts at odd positions are digits, so that numbers are compared with numbers. The full name breaks ties between
    # "a" and "A", or "1" and "01".
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)], name


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _images_under(folder: str, excluded: list[str], above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Paths of the images below a folder; folders that are not data are added to `excluded` and skipped."""
    here = os.path.realpath(folder)
    if here in above:  # a link to a parent folder would never end
        return
    for entry in _visible(folder):
        if _is_folder(entry):
            if not _is_skipped(entry.path, excluded):
                yield from _images_under(entry.path, excluded, above | {here})
        elif _is_image(entry.name):
            yield entry.path


def _refuse_splits(root: str, folders: list[str]) -> None:
    if all(name.casefold() in _SPLITS for name in folders):
        raise InputError(
            f"the folders in {root!r} are called {', '.join(folders)}, the names of splits and not of classes: give "
            f"one of them as root, say {os.path.join(root, folders[0])!r}, or set class_folders"
        )


def _no_image(root: str) -> str:
    seen = {os.path.splitext(name)[1].lower() for _, _, names in os.walk(root) for name in names} - {""}
    only = f", only {', '.join(sorted(seen))} files" if seen else ""
    return f"the folder {root!r} holds no image{only}: put images there ({' '.join(sorted(EXTENSIONS))})"


TORCHVISION_FOLDERS: tuple[Callable[..., Any], ...] = (datasets.ImageFolder, DatasetFolder)


def torchvision_folder(class_type: Callable[..., DatasetFolder], arguments: Mapping[str, Any]) -> DatasetFolder:
    """Create one of torchvision's folder data sets, without the folders of runs and of the system.

    torchvision treats every subfolder as a class, even a run folder, and every picture in it as a sample.

    Args:
        class_type: the data set class.
        arguments: arguments of the class, by name.

    Raises:
        FileNotFoundError: for a class folder without a sample, as in torchvision.
    """
    root = os.path.expanduser(os.fspath(arguments["root"]))
    excluded = skipped_folders(root)
    if not excluded:
        return class_type(**arguments)
    log_skipped_folders(root, excluded)
    made = class_type(**{**arguments, "allow_empty": True})
    outside = [(path, made.classes[label]) for path, label in made.samples if not _lies_in(path, excluded)]
    gone = {os.path.relpath(folder, root) for folder in excluded}
    made.classes = [name for name in made.classes if name not in gone]
    made.class_to_idx = {name: label for label, name in enumerate(made.classes)}
    made.samples = [(path, made.class_to_idx[name]) for path, name in outside]
    made.targets = [label for _, label in made.samples]
    if hasattr(made, "imgs"):
        made.imgs = made.samples
    empty = sorted(set(made.classes) - {name for _, name in outside})
    if empty and not arguments.get("allow_empty"):
        raise FileNotFoundError(f"Found no valid file for the classes {', '.join(empty)}.")
    return made


def _lies_in(path: str, folders: list[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)


class ImageFolder(Dataset[tuple[Image.Image | Tensor, int | None]]):
    """Image folder data set: images under a folder in natural order (2 before 10), with class folders as labels.

    With classes the layout is ``root/class/**/image``. Without classes it is ``root/**/image``, and every label is
    None. Names that begin with a dot, and files without an image extension, are skipped. Links are followed. Run
    folders, and folders of archive programs (``__MACOSX``) and file systems, are skipped too, and a log line names
    them.

    Args:
        root: the folder.
        class_folders: whether the root's subfolders are classes. None decides by the contents: the subfolders are
            classes if the root itself has no image and at least one subfolder.
        on_corrupt: "error" raises when a damaged file is read. "skip" reads every file once in the constructor, in
            threads, and leaves out those that do not decode.
        cache: path of a packed cache for the decoded images. It is written at the first start and when files have
            changed. Items are then uint8 tensors with the same pixels. None decodes each image whenever it is read.
        cache_size: shorter side to which the cache reduces larger images. None keeps their size.
        full_checksum: whether caches and protocols identify the files by all their bytes, which are then read at each
            start. If not, they use name, size and modification time.

    Attributes:
        paths: one path per sample.
        labels: one label per sample, or None.
        classes: class names in the order of their labels; empty without classes.
        skipped: (path, reason) of each file left out.

    Raises:
        InputError: for a missing or empty folder, a class folder without an image, splits instead of classes, or a
            cache that is damaged or cannot be written. When an item is read: for a file that does not decode.
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
            raise InputError(
                f"cache_size {cache_size} is the size of cached images in pixels: give `cache`, and at least 1"
            )
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
        """A batch of images from the cache in one call, if they have one shape; else None."""
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
        """Remove the samples at these positions."""
        self.skipped = [(self.paths[place], reason) for place, reason in reasons.items()]
        if self.skipped:
            _log_skipped_images(self.root, self.skipped, len(self.paths))
        self.paths = [path for place, path in enumerate(self.paths) if place not in reasons]
        if self.labels is not None:
            self.labels = [label for place, label in enumerate(self.labels) if place not in reasons]
            refuse_empty_classes(self.root, self.classes, self.labels, "image that decodes")


def _damaged(paths: list[str]) -> dict[int, str]:
    """Reason for each image that does not decode, by position; in threads, as Pillow releases the GIL."""
    with ThreadPool(min(16, os.cpu_count() or 1)) as pool:
        reasons = pool.imap(_reason_to_skip, paths, chunksize=16)
        # The progress bar appears on stderr after a delay, so that short waits show none.
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


def _log_skipped_images(root: str, skipped: list[tuple[str, str]], count: int) -> None:
    first = [f"{os.path.relpath(path, root)}: {reason}" for path, reason in skipped[:3]]
    more = [f"and {len(skipped) - 3} more"] if len(skipped) > 3 else []
    listed = "; ".join(first + more)
    if len(skipped) == count:
        raise InputError(f"none of the {count} images in {root!r} decodes ({listed}): give a folder of intact images")
    _log.warning("%d of %d images in %r do not decode and are left out (%s)", len(skipped), count, root, listed)
