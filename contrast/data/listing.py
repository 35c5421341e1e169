"""Which images a folder holds, and which class each belongs to: names only, no file is opened."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator

from contrast.data.image_file import EXTENSIONS
from contrast.errors import InputError

__all__ = ["list_images", "passed_over", "refuse_empty_classes", "say_passed_over"]

_log = logging.getLogger(__name__)

_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation"}

# Folders that archive programs and file systems make beside the data; names with a dot in front are hidden anyway.
_NOT_DATA = {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
# A run folder has config.yaml and one of these; what `contrast duplicates` draws may lie outside of a run folder.
_OF_A_RUN = (".lock", "status.json", "metrics.jsonl", "checkpoints")


def list_images(root: str, class_folders: bool | None) -> tuple[list[str], list[int] | None, list[str]]:
    """Paths in natural order, a label a path or None, and the names of the classes.

    Args:
        root: a folder.
        class_folders: whether its subfolders are classes; None takes them for classes if root itself holds no image.

    Raises:
        InputError: where there is no such folder or no image, for a class folder without an image, and for
            subfolders called train, test or the like unless `class_folders` says that they are meant.
    """
    files, folders = _look_into(root)
    passed: list[str] = []
    folders = [name for name in folders if not _is_passed_over(os.path.join(root, name), passed)]
    if class_folders is None:
        class_folders = bool(folders) and not files
        if class_folders:
            _refuse_splits(root, folders)
    elif class_folders and not folders:
        holds = f"only images, such as {files[0]!r}" if files else "no folder"
        raise InputError(
            f"class_folders is true, but {root!r} holds {holds}: make folders of the classes, or say false"
        )
    classes = folders if class_folders else []
    groups = [list(_images_under(os.path.join(root, name), passed)) for name in (classes or [""])]
    say_passed_over(root, passed)
    if not any(groups) and not files:
        raise InputError(_no_image(root))
    paths = [path for group in groups for path in group]
    if not class_folders:
        return paths, None, []
    labels = [label for label, group in enumerate(groups) for _ in group]
    refuse_empty_classes(root, classes, labels, "image")
    return paths, labels, classes


def passed_over(root: str) -> list[str]:
    """All folders below root that are no data: of runs, of nothing but runs, of an archive program or a file system."""
    passed: list[str] = []
    if os.path.isdir(root):
        _find_passed_over(root, passed, frozenset())
    return passed


def say_passed_over(root: str, folders: list[str]) -> None:
    """Log one line that names the folders that are no data; nothing where there are none."""
    names = list(dict.fromkeys(os.path.relpath(folder, root) for folder in folders))
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        listed = ", ".join(names[:5])
        _log.warning(
            "passed over in %r, since they hold runs or files of the system, no data: %s%s", root, listed, more
        )


def _find_passed_over(folder: str, passed: list[str], above: frozenset[str]) -> None:
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        inside = sorted((entry for entry in entries if _is_folder(entry)), key=lambda entry: entry.name)
    for entry in inside:
        if entry.name.startswith("."):
            passed.append(entry.path)
        elif not _is_passed_over(entry.path, passed):
            _find_passed_over(entry.path, passed, above | {here})


def _is_passed_over(folder: str, passed: list[str]) -> bool:
    """Whether a folder is no data; if so, it is added to `passed`."""
    no_data = os.path.basename(folder).casefold() in _NOT_DATA or _is_run(folder) or _holds_only_runs(folder)
    if no_data:
        passed.append(folder)
    return no_data


def _is_run(folder: str) -> bool:
    if os.path.isfile(os.path.join(folder, "config.yaml")):
        return any(os.path.exists(os.path.join(folder, name)) for name in _OF_A_RUN)
    return os.path.isfile(os.path.join(folder, "duplicates", "duplicates.json"))


def _holds_only_runs(folder: str, depth: int = 3) -> bool:
    """Whether a folder has runs and nothing else to see, as the folder ``runs`` does, or folders of such folders."""
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
    except OSError:  # reading the folder says so
        return False
    return found


def refuse_empty_classes(root: str, classes: list[str], labels: list[int], what: str) -> None:
    """Raise InputError naming the class folders of which `labels` has no sample; `what` says of what they have none."""
    found = set(labels)
    empty = [repr(name) for label, name in enumerate(classes) if label not in found]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        noun = "class folder" if len(empty) == 1 else "class folders"
        raise InputError(
            f"{noun} {', '.join(empty[:5])}{more} in {root!r} without an {what}: put images there or remove the {noun}"
        )


def _look_into(root: str) -> tuple[list[str], list[str]]:
    """Names of the images and of the folders directly in root."""
    if not os.path.exists(root):
        raise InputError(f"there is no image folder {root!r}: correct `root`, or put the images there")
    if not os.path.isdir(root):
        raise InputError(f"{root!r} is a file, no folder of images: give a folder, unpacked if this is an archive")
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
    # entry.is_dir() raises for a link to itself; os.path.isdir says no.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _natural(name: str) -> tuple[list[str | int], str]:
    # Odd parts are the digits, so that like meets like; the name itself decides between "a" and "A", "1" and "01".
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)], name


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _images_under(folder: str, passed: list[str], above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Images below a folder; folders that are no data are added to `passed`, not looked into."""
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder that this one lies in
        return
    for entry in _visible(folder):
        if _is_folder(entry):
            if not _is_passed_over(entry.path, passed):
                yield from _images_under(entry.path, passed, above | {here})
        elif _is_image(entry.name):
            yield entry.path


def _refuse_splits(root: str, folders: list[str]) -> None:
    if all(name.casefold() in _SPLITS for name in folders):
        raise InputError(
            f"the folders in {root!r} are called {', '.join(folders)}, which are splits, no classes: give one of "
            f"them as root, say {os.path.join(root, folders[0])!r}, or set class_folders"
        )


def _no_image(root: str) -> str:
    seen = {os.path.splitext(name)[1].lower() for _, _, names in os.walk(root) for name in names} - {""}
    only = f", only {', '.join(sorted(seen))} files" if seen else ""
    return f"the folder {root!r} holds no image{only}: put images there ({' '.join(sorted(EXTENSIONS))})"
