"""Pairs that stand out, out of gallery.jsonl: read tolerantly, with pictures from inside the run folder only."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrast.records import last_row
from contrast.report.numbers import is_number, number
from contrast.report.samples import losses_by_epoch
from contrast.run_folder import RunFolder

__all__ = ["Gallery", "HardNegative", "Pair", "Pictures", "Query", "read_gallery"]

GROUPS = ("highest", "lowest", "flagged")
KINDS = ("shared", "mined", "pair_mix", "query_mix")
MOST_BYTES = 262_144
MOST_PIXELS = 4096  # a side: few bytes may unfold to gigabytes in the browser
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Pair:
    """A training sample with the two views that it was trained by.

    A number is None where there is none; the name of the class and the path of the file are then empty.
    """

    index: int
    label: int | None
    class_name: str
    path: str
    loss: float | None
    positive: float | None
    weight: float | None
    flag: str
    pictures: tuple[str, ...]
    losses: tuple[float, ...]
    positives: tuple[float, ...]


@dataclass(frozen=True)
class HardNegative:
    """A negative of a query; a mix has neither sample nor picture."""

    index: int | None
    label: int | None
    class_name: str
    path: str
    score: float | None
    share: float | None
    kind: str
    picture: str


@dataclass(frozen=True)
class Query:
    """A query with its hardest negatives, the hardest first, and its sample's loss in the kept epochs."""

    index: int
    label: int | None
    class_name: str
    path: str
    positive: float | None
    picture: str
    negatives: tuple[HardNegative, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Gallery:
    """One row of gallery.jsonl: groups of pairs by name, and queries."""

    step: int
    epoch: int
    groups: dict[str, tuple[Pair, ...]]
    queries: tuple[Query, ...]


class Pictures:
    """Pictures as data URLs, so that a page needs no file beside it; empty text for one that cannot be shown.

    Args:
        folder: the run folder, which no path leaves.
        budget: bytes of all pictures together; those after are left out.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.left, self.left_out = folder.resolve(), budget, 0
        self._made: dict[str, str] = {}

    def url(self, path: str) -> str:
        """The picture at a path in the run folder."""
        if path and path not in self._made:
            self._made[path] = self._url(path)
        return self._made.get(path, "")

    def _url(self, path: str) -> str:
        try:
            file = (self.folder / path).resolve()
            inside = file.is_relative_to(self.folder) and file.suffix == ".png"
            content = file.read_bytes() if inside and file.is_file() and file.stat().st_size <= MOST_BYTES else b""
        except (OSError, ValueError, RuntimeError):  # the last for a link to itself
            return ""
        if not content.startswith(PNG) or max(struct.unpack(">II", content[16:24].ljust(8, b"\xff"))) > MOST_PIXELS:
            return ""
        if len(content) > self.left:
            self.left_out += 1
            return ""
        self.left -= len(content)
        return "data:image/png;base64," + base64.b64encode(content).decode()


def read_gallery(folder: RunFolder) -> Gallery | None:
    """The last whole row; None where there is none."""
    row = last_row(folder.gallery)
    if row is None or not is_number(row["step"]):
        return None
    groups = {name: tuple(_pair(each) for each in _dicts(row.get(name))) for name in GROUPS}
    asked = _dicts(row.get("queries"))
    index = [index for each in asked if (index := _whole(each.get("index"))) is not None]
    losses = losses_by_epoch(folder, index, _text(row.get("numbering")))
    queries = tuple(_query(each, losses) for each in asked)
    groups = {name: pairs for name, pairs in groups.items() if pairs}
    return Gallery(int(row["step"]), _whole(row.get("epoch")) or 0, groups, queries) if groups or queries else None


def _pair(row: dict[str, Any]) -> Pair:
    history = row.get("history") if isinstance(row.get("history"), dict) else {}
    pictures = row.get("pictures") if isinstance(row.get("pictures"), list) else []
    return Pair(
        index=_whole(row.get("index")) or 0,
        label=_whole(row.get("label")),
        class_name=_text(row.get("class")),
        path=_text(row.get("path")),
        loss=number(row.get("loss")),
        positive=number(row.get("positive")),
        weight=number(row.get("weight")),
        flag=_text(row.get("flag")),
        pictures=tuple(_text(path) for path in pictures or []),
        losses=_finite((history or {}).get("loss")),
        positives=_finite((history or {}).get("positive")),
    )


def _query(row: dict[str, Any], losses: dict[int, tuple[float, ...]]) -> Query:
    index = _whole(row.get("index")) or 0
    return Query(
        index=index,
        label=_whole(row.get("label")),
        class_name=_text(row.get("class")),
        path=_text(row.get("path")),
        positive=number(row.get("positive")),
        picture=_text(row.get("picture")),
        negatives=tuple(
            HardNegative(
                index=known if (known := _whole(each.get("index"))) is not None and known >= 0 else None,
                label=_whole(each.get("label")),
                class_name=_text(each.get("class")),
                path=_text(each.get("path")),
                score=number(each.get("score")),
                share=number(each.get("share")),
                kind=kind if (kind := _text(each.get("kind"))) in KINDS else "shared",
                picture=_text(each.get("picture")),
            )
            for each in _dicts(row.get("negatives"))
        ),
        losses=losses.get(index, ()),
    )


def _dicts(value: Any) -> Sequence[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _finite(values: Any) -> tuple[float, ...]:
    found = [number(value) for value in values] if isinstance(values, list) else []
    return tuple(value for value in found if value is not None)


def _whole(value: Any) -> int | None:
    return int(value) if is_number(value) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
