"""Find run folders below a folder, and resolve a name from a URL to a run without leaving that folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from contrast.run_folder import RunFolder

__all__ = ["RunsFolder", "Stamps"]

Stamps = dict[str, tuple[int, int]]
"""Last modification time (nanoseconds) and size (bytes) of each file of a run that a page reads, by relative path."""

DEEPEST = 4  # levels of folders that are searched for runs
UNREAD = {"checkpoints", "features", "export", "duplicates", "wandb", "tensorboard", "report.html", "metrics.csv"}
"""Files and folders of a run that no page reads."""
PICTURES = "gallery"


class RunsFolder:
    """Run folders at most four levels below a folder, named by their relative paths: "first", "sweep/seed-0".

    Links to folders are not followed, so every name has one folder, and this folder lies inside. A run is ignored if
    a file that would be read is a link out of the folder. Names that start with a dot, and names that are not valid
    UTF-8, are ignored.

    Args:
        path: the folder, as it was given. It may itself be a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._real = path.resolve()

    def names(self) -> list[str]:
        """Names of all runs, sorted."""
        return sorted(self._below(self._real, "", DEEPEST))

    def run(self, name: str) -> RunFolder | None:
        """Run folder of a name; None where there is no such run. Any text is a safe name."""
        found = self.seen(name)
        return None if found is None else found[0]

    def seen(self, name: str) -> tuple[RunFolder, Stamps] | None:
        """Run folder of a name and the current stamps of its files; None where there is no such run."""
        parts = name.split("/")
        if len(parts) > DEEPEST or not all(map(_usual, parts)):
            return None
        folder = self._real.joinpath(*parts)
        try:
            inside = folder.resolve() == folder and os.path.isfile(folder / "config.yaml")
        except (OSError, ValueError, RuntimeError):  # an impossible file name, or a link to itself
            return None
        run = RunFolder(self.path.joinpath(*parts))
        stamps = self.stamps(run) if inside else None
        return None if stamps is None else (run, stamps)

    def stamps(self, run: RunFolder) -> Stamps | None:
        """Current stamps of the files of a run; None where the run is gone or a file is a link out of the folder."""
        found: Stamps = {}
        for entry in _files(run.path):
            if entry.is_symlink() and not self._inside(Path(entry.path)):
                return None
            with contextlib.suppress(OSError):  # deleted in the meantime, or a broken link
                seen = entry.stat()
                found[os.path.relpath(entry.path, run.path)] = (seen.st_mtime_ns, seen.st_size)
        return found if "config.yaml" in found else None

    def _inside(self, link: Path) -> bool:
        try:
            return link.resolve().is_relative_to(self._real)
        except RuntimeError:  # a link to itself leads nowhere
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
    """Whether a part of a path is allowed: valid UTF-8 and not hidden, so neither "." nor ".."."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return bool(name) and not name.startswith(".") and "\0" not in name


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Entries of a folder; empty where it was deleted in the meantime or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Files and links of a run that pages read, including those in its folders.

    The folder of pictures is returned instead of its files, which may be thousands. Pictures are written before the
    row of gallery.jsonl that names them, and each picture is checked when it is put on a page.
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
