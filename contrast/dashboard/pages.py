"""HTML templates and report pages of the dashboard."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape

from contrast.dashboard.runs_folder import RunsFolder
from contrast.dashboard.summary import UNREADABLE
from contrast.report import Around, build_page, read_runs
from contrast.report.page import asset
from contrast.run_folder import RunFolder

__all__ = ["LineCounts", "Page", "ReportPages", "own_asset", "rendered", "rows_written", "stylesheet"]


def own_asset(name: str) -> str:
    """Read an asset of the dashboard: a template, a style sheet or a script."""
    return resources.files("contrast.dashboard").joinpath("assets", name).read_text(encoding="utf-8")


def rendered(name: str, values: dict[str, Any]) -> Markup:
    """Render an HTML template of the dashboard; all values are escaped."""
    return Markup(_templates().get_template(name).render(values))


@functools.cache
def stylesheet() -> str:
    """Style sheet of the list of runs: the report's colours and rules, then the dashboard's own."""
    colours = rendered("theme.css", {"theme": json.loads(asset("theme.json"))["colours"]})
    return "\n".join((colours, asset("page.css"), own_asset("standing.css"), own_asset("list.css")))


@functools.cache
def _templates() -> jinja2.Environment:
    ours = jinja2.PackageLoader("contrast.dashboard", "assets")
    shared = jinja2.FunctionLoader(lambda name: asset(name) if name == "theme.css" else None)
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([shared, ours]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["attribute"] = _attribute
    return environment


def _attribute(value: str) -> Markup:
    """Escape text for a quoted HTML attribute; carriage returns too, which a browser would read as line feeds."""
    return escape(value).replace("\r", Markup("&#13;"))


MOST_PAGES = 12
"""Largest number of report pages in the cache; a page takes about two megabytes."""


@dataclass(frozen=True)
class Page:
    """Report page and its entity tag.

    Attributes:
        content: the HTML.
        tag: text that changes when the page changes.
    """

    content: bytes
    tag: str


class ReportPages:
    """Cache of report pages of one or several runs.

    Only one page is built at a time; other requests wait.

    Args:
        runs: the folder of runs.
    """

    def __init__(self, runs: RunsFolder) -> None:
        self.runs = runs
        self._pages: OrderedDict[str, Page] = OrderedDict()
        self._building, self._lock = threading.Lock(), threading.Lock()
        self._process = secrets.token_hex(4)  # in every tag: after an update the same files may give another page

    def page(self, names: Sequence[str]) -> Page | None:
        """Report page of the named runs, from the cache if their files are unchanged; None where a run is missing."""
        tag = self._tag(names)
        if tag is None:
            return None
        if (page := self._kept(tag)) is not None:
            return page
        with self._building:
            if (page := self._kept(tag)) is not None:
                return page
            try:
                page = Page(self._build(names), tag)
            except UNREADABLE:
                return None
        with self._lock:
            self._pages[tag] = page
            while len(self._pages) > MOST_PAGES:
                self._pages.popitem(last=False)
        return page

    def _kept(self, tag: str) -> Page | None:
        with self._lock:
            if tag in self._pages:
                self._pages.move_to_end(tag)
            return self._pages.get(tag)

    def _tag(self, names: Sequence[str]) -> str | None:
        """Tag of the files as they are now: rows that are written during the build change the tag."""
        seen = []
        for name in names:
            found = self.runs.seen(name)
            if found is None:
                return None
            stamps = found[1]
            seen.append((name, sorted((file, stamp) for file, stamp in stamps.items() if file != "status.json")))
        return hashlib.sha256(repr((self._process, seen)).encode()).hexdigest()[:20]

    def _build(self, names: Sequence[str]) -> bytes:
        folders = [run for name in names if (run := self.runs.run(name)) is not None]
        if len(folders) < len(names):
            raise FileNotFoundError(names)
        top = rendered(
            "bar.html",
            {"names": names, "query": urlencode([("run", name) for name in names]), "rows": rows_written(folders)},
        )
        around = Around(top, own_asset("standing.css") + own_asset("bar.css"), own_asset("bar.js"))
        return build_page(read_runs(folders), around).encode()


def rows_written(runs: Sequence[RunFolder], counts: LineCounts | None = None) -> int:
    """Number of lines in all .jsonl files of the runs.

    Args:
        runs: the run folders.
        counts: line counts of earlier calls. With them only new lines are read.

    Raises:
        OSError: if a file is deleted during the call.
    """
    counts = counts or LineCounts()
    return sum(counts.lines(file) for run in runs for file in sorted(run.path.glob("*.jsonl")) if file.is_file())


class LineCounts:
    """Line counter for growing files: each call reads only what was appended since the last call."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int, int]] = {}  # inode, bytes read, lines in these bytes
        self._lock = threading.Lock()

    def lines(self, path: Path) -> int:
        """Number of lines in the file now; a file that was replaced or has shrunk is counted from its start.

        Raises:
            OSError: if the file does not exist.
        """
        with self._lock, open(path, "rb") as file:
            seen = os.fstat(file.fileno())
            number, place, count = self._known.get(path, (seen.st_ino, 0, 0))
            if number != seen.st_ino or place > seen.st_size:
                place, count = 0, 0
            file.seek(place)
            while part := file.read(1 << 20):
                place, count = place + len(part), count + part.count(b"\n")
            self._known[path] = (seen.st_ino, place, count)
        return count
