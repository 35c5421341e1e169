"""Which runs there are below a folder, and the way from a name in an address to a run, which never leads out of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from contrast.run_folder import RunFolder

__all__ = ["RunsFolder", "Stamps"]

Stamps = dict[str, tuple[int, int]]
"""Time of the last change (nanoseconds) and size of each file of a run that a page is made from."""

DEEPEST = 4
UNREAD = {"checkpoints", "features", "export", "duplicates", "wandb", "tensorboard", "report.html", "metrics.csv"}
PICTURES = "gallery"


class RunsFolder:
    """Run folders at most four levels below a folder, by their paths in it: "first", "sweep/seed-0".

    No link is followed, so a name has one folder, inside. A run of which a file that would be read is a link out of
    the folder is none. Names that start with a dot are left out, and those that are not UTF-8.

    Args:
        path: the folder, as it was given; it may itself be a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()

    def names(self) -> list[str]:
        """Every run, in order of name."""
        return sorted(self._below(self._real, "", DEEPEST))

    def run(self, name: str) -> RunFolder | None:
        """The run of this name; None where there is none, whatever the name is made of."""
        found = self.seen(name)
        return None if found is None else found[0]

    def seen(self, name: str) -> tuple[RunFolder, Stamps] | None:
        """The run of this name and what its files look like now; None where there is no such run."""
        parts = name.split("/")
        if len(parts) > DEEPEST or not all(map(_usual, parts)):
            return None
        folder = self._real.joinpath(*parts)
        try:
            inside = folder.resolve() == folder and os.path.isfile(folder / "config.yaml")
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, a link to itself
            return None
        run = RunFolder(self.path.joinpath(*parts))
        stamps = self.stamps(run) if inside else None
        return None if stamps is None else (run, stamps)

    def stamps(self, run: RunFolder) -> Stamps | None:
        """What the run's files look like from outside; None where the run is gone or one of them leads out."""
        found: Stamps = {}
        for entry in _files(run.path):
            if entry.is_symlink() and not self._inside(Path(entry.path)):
                return None
            with contextlib.suppress(OSError):  # deleted meanwhile, or a link to nothing
                seen = entry.stat()
                found[os.path.relpath(entry.path, run.path)] = (seen.st_mtime_ns, seen.st_size)
        return found if "config.yaml" in found else None

    def _inside(self, link: Path) -> bool:
        try:
            return link.resolve().is_relative_to(self._real)
        except RuntimeError:  # a link to itself, which is to nothing
            return True

    def _below(self, folder: Path, prefix: str, levels: int) -> Iterator[str]:
        for entry in _entries(folder):
            if not _usual(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            name = f"{prefix}{entry.name}"
            if os.path.isfile(os.path.join(entry.path, "config.yaml")):
                yield name
            elif levels > 1:
                yield from self._below(Path(entry.path), f"{name}/", levels - 1)


def _usual(name: str) -> bool:
    """Whether a part of a path may be shown: not hidden (so neither "." nor ".."), and text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and not name.startswith(".") and "\0" not in name


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it was deleted meanwhile or is not ours to read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The files and links of a run and of the folders in it that pages are made from.

    The folder of pictures stands for its files, which may be thousands: they are written before the row of
    gallery.jsonl that names them, and each one is looked at when it is put on a page.
    """
    for entry in _entries(folder):
        if entry.name in UNREAD or entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False) and entry.name != PICTURES:
            for inner in _entries(entry.path):
                if not inner.is_dir(follow_symlinks=False) and not inner.name.startswith("."):
                    yield inner
        else:
            yield entry
