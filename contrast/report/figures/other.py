"""Report figures on other records: every recorded scalar and histogram that no figure of its own draws."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from contrast.report.chart_kinds import Kind, clipped_cells, heat_chart, kinds_chart
from contrast.report.charts import RUN_COLOURS, Axis, Chart, Figure, Table, axis_within
from contrast.report.curves import MOST_ROWS, STEP, extend, has_lone_point, some_of
from contrast.report.figures.negatives import edges as column_ends
from contrast.report.numbers import is_number, number, thin
from contrast.report.run_record import RunRecord

__all__ = ["CLAIMS", "other_records"]

_KINDS = ("positive", "negative", "hardest", "own", "mined", "pair_mix", "query_mix", "synthetic", "same_class")
_OF_ROWS = ("width", "rows", "rank_me", "std", "norm", "spectrum/place", "spectrum/value")
CLAIMS: dict[str, tuple[str, ...]] = {
    "score-densities": tuple(f"{kind}{part}" for kind in _KINDS for part in ("", "/mean", "/std")),
    "score-separation": ("separation/*", "scores/auc", "scores/d_prime", "scores/overlap"),
    "pretext-accuracy": ("proxy/accuracy", "proxy/accuracy_without_mixes"),
    "training-loss": ("train/loss", "train/samples_per_second"),  # the speed is one of the key numbers
    "knn-accuracy": ("online/knn_top1", "online/raw_input_knn_top1", "online/majority_class"),
    "learning-rate": ("train/rate",),
    "hardness-profile": ("hardness/score", "hardness/gradient", "placeholders/mean"),
    "false-negatives": (
        *("hardness/same_class/all", "hardness/same_class/shared", "hardness/same_class/mined"),
        *("hardness/same_class/mixed", "false_negatives/all", "false_negatives/shared", "false_negatives/mined"),
        *("false_negatives/mixed", "false_negatives/random", "false_negatives/denominator"),
    ),
    "memory-bank": ("ages/*", "freshness/*", "recall/*", "bank", "bank/age", "bank/recall", "bank/fresh_cosine"),
    "gradient-shares": (
        *("gradient/effective", "gradient/effective/*", "gradient/negatives", "gradient/top/*"),
        *("gradient/synthetic", "gradient/same_class", "gradient/pull", "gradient/push"),
    ),
    "coupling": ("coupling", "coupling/mean"),
    "temperatures": (
        *("temperature/value", "temperature/heads", "train/temperature"),
        *("temperature/*/positive", "temperature/*/negative"),
    ),
    "embedding-health": (
        *("embedding/alignment", "embedding/uniformity", "embedding/margin/*"),
        *(f"{of}/{part}" for of in ("embedding", "features") for part in _OF_ROWS),
    ),
    "bad-pairs": ("bad_pairs/noisy", "bad_pairs/faulty", "bad_pairs/weight"),
}
"""Records that each figure of the page draws or states, as paths of keys; ``*`` stands for any one key."""

_PLACE = ("step", "epoch", "seconds")
_INSIDE = ("counts", "edges", "quantiles", "shares")  # lists that belong to a histogram or to a mean
MOST_CHARTS = 24
"""Largest number of charts in the section."""
MOST_NAMED = 5
"""Largest number of names in a note."""
MOST_LINES, ALIKE = 6, 20.0
"""Largest number of lines in a chart, and largest ratio of their sizes: a smaller line would be flat."""
MOST_BINS, MOST_CELLS = 100, 40_000
"""Largest number of bins of a heat map, and of cells of all heat maps together."""
LONGEST = 60  # characters of a name

Path = tuple[str, ...]


@dataclass
class _Records:
    """Records of one run without a figure of their own.

    Attributes:
        scalars: steps and values of each number, by path.
        histograms: step, counts and bin ends of each histogram, by path; without ends where the run states none.
        lists: paths of other lists.
        files: names of the files that hold records of a first key.
    """

    scalars: dict[Path, list[tuple[int, float]]] = field(default_factory=dict)
    histograms: dict[Path, list[tuple[int, list[float], list[float]]]] = field(default_factory=dict)
    lists: set[Path] = field(default_factory=set)
    files: dict[str, list[str]] = field(default_factory=dict)


def other_records(runs: Sequence[RunRecord]) -> list[Figure]:
    """Figures of the records that no other figure of the page claims, one per first key; empty where there are none.

    Scalars of one family (numbers beside each other in a row) share a chart, if their sizes are similar. A histogram is
    a heat map over training, one per run. Records of any version are drawn, as nothing is known of them but their form.
    """
    found = [_read(run) for run in runs]
    paths = dict.fromkeys(path for records in found for path in (*records.scalars, *records.histograms))
    names = list(dict.fromkeys(path[0] for path in paths))
    lists = dict.fromkeys(path for records in found for path in sorted(records.lists))
    maps = sum(len(records.histograms) for records in found)
    figures: list[Figure] = []
    room, dropped = MOST_CHARTS, list[str]()
    for name in names:
        of_name = [path for path in paths if path[0] == name]
        figure, left = _figure(name, len(figures), runs, found, of_name, room, max(1, maps))
        dropped += left
        if figure is not None:
            figures.append(figure)
            room -= len(figure.charts)
    if figures:
        notes = [
            *_notes("not drawn for want of room", dropped),
            *_notes("not drawn, being a list of numbers", map(_said, lists)),
        ]
        figures[-1] = replace(figures[-1], notes=(*figures[-1].notes, *notes))
    return figures


def _notes(what: str, names: Any) -> list[str]:
    every = list(dict.fromkeys(names))
    if not every:
        return []
    more = f" and {len(every) - MOST_NAMED:,} more" if len(every) > MOST_NAMED else ""
    records = "1 further record is" if len(every) == 1 else f"{len(every):,} further records are"
    return [f"{records} {what}: {', '.join(every[:MOST_NAMED])}{more}. The files of the run have them."]


# --- reading ---


@functools.cache
def _claims() -> re.Pattern[str]:
    patterns = dict.fromkeys(pattern for claims in CLAIMS.values() for pattern in claims)
    return re.compile("|".join(re.escape(pattern).replace(r"\*", "[^/]+") for pattern in patterns))


def _claimed(path: Path) -> bool:
    return _claims().fullmatch("/".join(path)) is not None


def _read(run: RunRecord) -> _Records:
    records = _Records()
    claimed: dict[Path, bool] = {}
    for file, rows in (("scores.jsonl", run.observed), ("bank.jsonl", run.bank)):
        for row in rows:
            for path, value in _leaves(row):
                if path not in claimed:
                    claimed[path] = path[0] in _PLACE or _claimed(path)
                if not claimed[path] and _add(records, path, value, int(row["step"]), run.header):
                    records.files.setdefault(path[0], [file])
    keys = dict.fromkeys(key for row in run.metrics for key in row)
    for key in keys:
        path = tuple(key.split("/"))
        # An observer's scalars are in both files.
        if path not in records.scalars and key not in _PLACE and not _claimed(path):
            points = [(int(row["step"]), value) for row in run.metrics if (value := number(row.get(key))) is not None]
            if points:
                records.scalars[path] = points
                files = records.files.setdefault(path[0], [])
                files += [] if "metrics.jsonl" in files else ["metrics.jsonl"]
    return records


def _leaves(row: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Numbers, lists and histograms of a row, each with the keys that lead to it."""
    for key, value in row.items():
        here = (*path, str(key))
        if isinstance(value, dict):
            if isinstance(value.get("counts"), list):
                yield here, value
            yield from ((inner, each) for inner, each in _leaves(value, here) if inner[-1] not in _INSIDE)
        else:
            yield here, value


def _add(records: _Records, path: Path, value: Any, step: int, header: Mapping[str, Any]) -> bool:
    """Add a value; returns whether it can be drawn."""
    if is_number(value):
        records.scalars.setdefault(path, []).append((step, float(value)))
        return True
    if isinstance(value, list):
        records.lists.add(path)
    elif isinstance(value, dict):
        counts = [count or 0.0 for count in map(number, value["counts"])]
        if sum(counts) > 0 and min(counts) >= 0:
            ends = _ends(path[-1], value.get("edges"), len(counts), header)
            records.histograms.setdefault(path, []).append((step, *_coarser(counts, ends)))
            return True
    return False


def _ends(name: str, given: Any, bins: int, header: Mapping[str, Any]) -> list[float]:
    """Ends of the bins: from the histogram itself, or from the header of the file; empty where neither states them."""
    for ends in (given, header.get(f"{name}_edges"), header.get("edges")):
        given_ends = ends if isinstance(ends, list) and all(map(is_number, ends)) else []
        if len(given_ends) == bins + 1 and all(low < high for low, high in pairwise(given_ends)):
            return [float(end) for end in given_ends]
    return []


def _coarser(counts: list[float], ends: list[float]) -> tuple[list[float], list[float]]:
    """Merge neighbouring bins until there are at most `MOST_BINS`."""
    together = -(-len(counts) // MOST_BINS)
    if together == 1:
        return counts, ends
    merged = [sum(counts[place : place + together]) for place in range(0, len(counts), together)]
    return merged, [*ends[: len(counts) : together], ends[-1]] if ends else []


# --- drawing ---


def _figure(
    name: str,
    place: int,
    runs: Sequence[RunRecord],
    found: Sequence[_Records],
    paths: Sequence[Path],
    room: int,
    maps: int,
) -> tuple[Figure | None, list[str]]:
    """Figure of the records with one first key, and the names of those for which there is no room."""
    table: Table = {}
    tables: dict[str, Table] = {}
    charts: list[Chart] = []
    notes: list[str] = []
    left: list[str] = []
    families = dict.fromkeys(
        path if any(path in each.histograms for each in found) else path[:-1] or path for path in paths
    )
    for family in families:
        lines = [
            path for path in paths if (path[:-1] or path) == family and any(path in each.scalars for each in found)
        ]
        for group in _similar(lines, found):
            if len(charts) == room:
                left += map(_said, group)
                continue
            notes += _draw_lines(group, family, runs, found, charts, table)
        if any(family in each.histograms for each in found):
            drawn, said = _heat_maps(family, runs, found, room - len(charts), f"{len(tables)}", maps)
            charts += [chart for chart, _, _ in drawn]
            tables |= {of: cells for _, of, cells in drawn}
            notes += said
            left += [_said(family)] if not drawn else []
    if not charts:
        return None, left
    notes += [f"{run.name}: not recorded." for run, each in zip(runs, found, strict=True) if not _has(each, paths)]
    shown = {"records": table} if table else {}
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST]
    reading = _reading(name, found, bool(table), bool(tables))
    anchor = f"other-{place}-{slug}".rstrip("-")
    figure = Figure(anchor, _cut(name), reading, tuple(charts), shown | tables, tuple(dict.fromkeys(notes)))
    return figure, left


def _has(records: _Records, paths: Sequence[Path]) -> bool:
    return any(path in records.scalars or path in records.histograms for path in paths)


def _reading(name: str, found: Sequence[_Records], lines: bool, maps: bool) -> str:
    files = dict.fromkeys(file for records in found for file in records.files.get(name, []))
    said = [f"Records named {_cut(name)} in {' and '.join(files)}, for which the page has no figure of its own."]
    said += (
        ["A line is one number over training; numbers of different magnitude have separate charts."] if lines else []
    )
    said += ["Each column of a map is the histogram of one step."] if maps else []
    return " ".join(said)


def _similar(paths: Sequence[Path], found: Sequence[_Records]) -> list[list[Path]]:
    """Group the numbers of a family so that each chart has few lines of similar size; the order is kept."""
    sizes = {path: max(abs(value) for each in found for _, value in each.scalars.get(path, [])) for path in paths}
    groups: list[list[Path]] = []
    for path in paths:
        for group in groups:
            both = [size for size in (*(sizes[each] for each in group), sizes[path]) if size]
            if len(group) < MOST_LINES and (not both or max(both) <= ALIKE * min(both)):
                group.append(path)
                break
        else:
            groups.append([path])
    return groups


def _draw_lines(
    group: Sequence[Path],
    family: Path,
    runs: Sequence[RunRecord],
    found: Sequence[_Records],
    charts: list[Chart],
    table: Table,
) -> list[str]:
    """Append one chart of numbers over training; its rows go to the table that all such charts share."""
    chart = f"chart{len(charts)}"
    rows: Table = {}
    for run, records in zip(runs, found, strict=True):
        for path in group:
            points = records.scalars.get(path, [])
            for place in thin([value for _, value in points], MOST_ROWS):
                step, value = points[place]
                extend(rows, run=run.name, chart=chart, kind=_cut(path[-1]), step=step, value=value)
    for column, values in rows.items():
        table.setdefault(column, []).extend(values)
    kinds = [Kind(_cut(path[-1]), f"run-{place % RUN_COLOURS}") for place, path in enumerate(group)]
    alone = _cut(group[0][-1]) if len(group) == 1 else "value"
    whole = all(value == int(value) for value in rows["value"])
    y, notes = axis_within(Axis("value", alone, ",d" if whole else "~g"), rows)
    spec = kinds_chart("records", STEP, y, [run.name for run in runs], kinds, points=has_lone_point(rows))
    spec["transform"] = [{"filter": f"datum.chart === '{chart}'"}]
    label = _said(group[0] if len(group) == 1 else family)
    charts.append(Chart(chart, spec, label))
    return [f"{label}: {note}" for note in notes]


def _heat_maps(
    path: Path, runs: Sequence[RunRecord], found: Sequence[_Records], room: int, prefix: str, maps: int
) -> tuple[list[tuple[Chart, str, Table]], tuple[str, ...]]:
    """Heat maps of one histogram with their tables, one per run, with shared axes; empty without room for all runs."""
    bins = max(len(counts) for each in found for _, counts, _ in each.histograms.get(path, []))
    columns = min(MOST_ROWS, max(12, MOST_CELLS // (maps * bins)))
    tables = {
        run.name: _cells(records.histograms[path], columns)
        for run, records in zip(runs, found, strict=True)
        if path in records.histograms
    }
    if len(tables) > room:
        return [], ()
    low = min(min(cells["low"]) for cells in tables.values())
    high = max(max(cells["high"]) for cells in tables.values())
    stated = all(ends for each in found for _, _, ends in each.histograms.get(path, []))
    y = Axis("low", _cut(path[-1]) if stated else "bin", "~g", low=low, high=high)
    density = Axis("density", "density", "~g")
    drawn = []
    for place, (run, cells) in enumerate(tables.items()):
        label = f"Histogram of {_said(path)}" + (f": {run}" if len(runs) > 1 else "")
        name = f"cells{prefix}-{place}"
        spec = heat_chart(name, y, density, None, list(tables.values()))
        drawn.append((Chart(f"map{prefix}-{place}", spec, label), name, cells))
    return drawn, clipped_cells(density, tables)


def _cells(rows: Sequence[tuple[int, list[float], list[float]]], columns: int) -> Table:
    """Cells of a heat map: density of each occupied bin at each step."""
    by_step = some_of([{"step": step, "counts": counts, "ends": ends} for step, counts, ends in rows], columns)
    table: Table = {}
    for at, row in enumerate(by_step):
        start, end = column_ends(by_step, at)
        counts = row["counts"]
        ends = row["ends"] or [float(place) for place in range(len(counts) + 1)]
        for count, low, high in zip(counts, ends, ends[1:], strict=False):
            if count:
                density = count / sum(counts) / (high - low)
                extend(table, **{"from": start}, to=end, step=row["step"], low=low, high=high, density=density)
    return table


def _said(path: Path) -> str:
    return _cut(" / ".join(path))


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
