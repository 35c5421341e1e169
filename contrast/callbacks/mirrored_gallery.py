"""The pairs that stand out, as tables with pictures at W&B and as sheets of pictures in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from contrast.run_folder import RunFolder

__all__ = ["Sheet", "as_wandb_table", "drawn", "sheets_of", "to_tensorboard"]

_NUMBERS = ("index", "label", "class", "path", "loss", "positive", "weight", "flag")
_NEGATIVES = (
    *("query", "query label", "query class", "query path", "positive"),
    *("negative", "negative label", "negative class", "negative path", "score", "share", "kind"),
)
_PAIRS_ACROSS = 4
_LEAST, _GAP, _APART = 48, 2, 10
"""Pixels: of a picture's longer side, between pictures, and more between groups of them."""


@dataclass(frozen=True)
class Sheet:
    """A table whose cells may be pictures.

    Attributes:
        name: under which it is logged.
        columns: their names.
        rows: their cells; a picture is a path.
        lines: the pictures again, as they lie below and beside each other, in groups that stand apart.
    """

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    lines: list[list[list[Path | None]]]


def sheets_of(folder: RunFolder, row: dict[str, Any]) -> list[Sheet]:
    """The sheets of a row of ``gallery.jsonl``: bad pairs, or those of highest loss where none is flagged, and queries
    with their hardest negatives; empty ones left out."""
    flagged = bool(row.get("flagged"))
    pairs = row["flagged"] if flagged else row.get("highest", [])
    made = [_pairs("pairs/bad" if flagged else "pairs/highest_loss", pairs, folder), _queries(row["queries"], folder)]
    return [sheet for sheet in made if sheet.rows]


def _pairs(name: str, pairs: Sequence[dict[str, Any]], folder: RunFolder) -> Sheet:
    views = [[_path(folder, picture) for picture in pair["pictures"]] for pair in pairs]
    count = max(map(len, views), default=0)
    rows = [
        (*(pair.get(number) for number in _NUMBERS), *seen, *[None] * (count - len(seen)))
        for pair, seen in zip(pairs, views, strict=True)
    ]
    columns = (*_NUMBERS, *(f"view {number}" for number in range(1, count + 1)))
    lines = [views[start : start + _PAIRS_ACROSS] for start in range(0, len(views), _PAIRS_ACROSS)]
    return Sheet(name, columns, rows, lines)


def _queries(queries: Sequence[dict[str, Any]], folder: RunFolder) -> Sheet:
    rows: list[tuple[Any, ...]] = []
    lines = []
    for query in queries:
        left, negatives = _path(folder, query["picture"]), query["negatives"]
        right = [_path(folder, negative["picture"]) for negative in negatives]
        lines.append([[left], right])
        for negative, picture in zip(negatives, right, strict=True):
            of_query, of_negative = ((each["label"], each.get("class"), each.get("path")) for each in (query, negative))
            numbers = (negative["score"], negative["share"], negative["kind"])
            rows.append((left, *of_query, query["positive"], picture, *of_negative, *numbers))
    return Sheet("pairs/hardest_negatives", _NEGATIVES, rows, lines)


def _path(folder: RunFolder, picture: Any) -> Path | None:
    """The picture among the run's own, whatever path its row names: what is sent away is never from elsewhere."""
    if not isinstance(picture, str):
        return None
    path = folder.pictures / Path(picture).name
    return path if path.is_file() and not path.is_symlink() else None


def as_wandb_table(sheet: Sheet) -> Any:
    """As W&B's table, pictures and all."""
    import wandb

    rows = [[wandb.Image(str(cell)) if isinstance(cell, Path) else cell for cell in row] for row in sheet.rows]
    return wandb.Table(columns=list(sheet.columns), data=rows)


def to_tensorboard(writer: Any, sheet: Sheet, step: int) -> None:
    """All pictures as one image, and the numbers as a table of text, in the pictures' order."""
    writer.add_image(sheet.name, np.asarray(drawn(sheet)), step, dataformats="HWC")
    shown = [
        place for place in range(len(sheet.columns)) if not any(isinstance(row[place], Path) for row in sheet.rows)
    ]
    lines = [[sheet.columns[place] for place in shown], ["---"] * len(shown)]
    lines += [["" if row[place] is None else str(row[place]) for place in shown] for row in sheet.rows]
    writer.add_text(sheet.name, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)


def drawn(sheet: Sheet) -> Image.Image:
    """The pictures in their lines, small ones enlarged without blur; what has no picture stays white."""
    lines = [[[_opened(path) for path in group] for group in line] for line in sheet.lines]
    there = [picture for line in lines for group in line for picture in group if picture is not None]
    width = max((picture.width for picture in there), default=_LEAST) + _GAP
    height = max((picture.height for picture in there), default=_LEAST) + _GAP
    across = max(sum(map(len, line)) * width + (len(line) - 1) * _APART for line in lines)
    canvas = Image.new("RGB", (across, height * len(lines)), "white")
    for down, line in enumerate(lines):
        left = 0
        for group in line:
            for picture in group:
                if picture is not None:
                    canvas.paste(picture, (left, down * height))
                left += width
            left += _APART
    return canvas


def _opened(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    with Image.open(path) as file:
        picture = file.convert("RGB")
    times = -(-_LEAST // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
