"""Two figures of a run so far, as PNG for image loggers: scores over training, and hardness by rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from contrast.records import last_row_per_step, read_rows
from contrast.run_folder import RunFolder

__all__ = ["figures"]

_SNAPSHOTS, _CURVES = 80, 8
_SIDES = {"positive": ("positive pairs", "blues"), "negative": ("negative pairs", "oranges")}
PER_NEGATIVE = "share of the gradient per negative"
_PANELS = {
    "score": ("mean score", ("hardness", "score")),
    "gradient": (PER_NEGATIVE, ("hardness", "gradient")),
    "same_class": ("share of the query's class", ("hardness", "same_class", "all")),
}
_CONFIG = {"background": "white", "view": {"stroke": None}, "axis": {"grid": False}, "axisX": {"labelAngle": 0}}


def figures(folder: RunFolder) -> dict[str, bytes]:
    """Render the figures of the current ``scores.jsonl`` as PNG, by name; a figure without data is left out.

    Args:
        folder: the run folder.
    """
    import vl_convert  # imported late, like W&B: only runs that need it pay for it

    rows = read_rows(folder.scores)
    header = next((row for row in rows if "edges" in row), None)
    if header is None:
        return {}
    observed = last_row_per_step(rows)
    specs = {
        "scores/over_training": _score_maps(header["edges"], _spread(observed, _SNAPSHOTS)),
        "hardness/by_rank": _rank_curves(header["rank_ends"], _spread(observed, _CURVES)),
    }
    return {name: vl_convert.vegalite_to_png(spec, scale=1.5) for name, spec in specs.items() if spec is not None}


def _spread(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most `most` rows, evenly spaced, including the first and the last."""
    last = len(rows) - 1
    return list(rows) if last < most else [rows[round(place * last / (most - 1))] for place in range(most)]


def _score_maps(edges: Sequence[float], rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Heat map for each kind of pair; a column covers the steps from the previous histogram to its own."""
    cells = {
        side: _cells(edges, [(row["step"], row[side]["counts"]) for row in rows if side in row]) for side in _SIDES
    }
    occupied = [cell for of_side in cells.values() for cell in of_side]
    if not occupied:
        return None
    reach = [min(cell["low"] for cell in occupied), max(cell["high"] for cell in occupied)]
    maps = [_score_map(cells[side], reach, *said) for side, said in _SIDES.items() if cells[side]]
    return {"hconcat": maps, "resolve": {"scale": {"color": "independent"}}, "config": _CONFIG}


def _score_map(cells: list[dict[str, float]], reach: list[float], title: str, scheme: str) -> dict[str, Any]:
    peaks: dict[float, float] = {}
    for cell in cells:
        peaks[cell["to"]] = max(cell["density"], peaks.get(cell["to"], 0.0))
    # Peaks of the first steps can be far above all others, so the colour scale is clamped at their 95 % quantile.
    peak = sorted(peaks.values())[math.ceil(0.95 * len(peaks)) - 1]
    score = {"title": "score (before the temperature)", "scale": {"domain": reach, "nice": False}}
    step = {"title": "training step", "axis": {"tickMinStep": 1, "format": ",d"}, "scale": {"nice": False}}
    ramp = {"scheme": scheme, "type": "sqrt", "domain": [0, peak], "clamp": True}
    return {
        "title": title,
        "width": 380,
        "height": 260,
        "data": {"values": cells},
        "mark": {"type": "rect", "x2Offset": 0.5, "yOffset": 0.5},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", **step},
            "x2": {"field": "to"},
            "y": {"field": "low", "type": "quantitative", **score},
            "y2": {"field": "high"},
            "color": {"field": "density", "type": "quantitative", "scale": ramp, "legend": {"title": "density"}},
        },
    }


def _cells(edges: Sequence[float], histograms: Sequence[tuple[int, list[int]]]) -> list[dict[str, float]]:
    before, cells = 0, []
    for step, counts in histograms:
        total = sum(counts)
        for (low, high), count in zip(pairwise(edges), counts, strict=True):
            if count:
                density = round(count / (total * (high - low)), 4)
                cells.append({"from": before, "to": step, "low": low, "high": high, "density": density})
        before = step
    return cells


def _rank_curves(ends: Sequence[int], rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Panels over hardness ranks, with one line per step; later steps are darker."""
    from contrast.report.curves import rank_labels

    groups = rank_labels({"rank_ends": ends})
    panels = []
    for title, path in _PANELS.values():
        points = [
            {"rank": group, "value": value, "step": row["step"]}
            for row in rows
            for group, value in zip(groups, _values(row, title, path, ends), strict=False)
            if value is not None and (value > 0 or title != PER_NEGATIVE)
        ]
        if points:
            panels.append(_rank_panel(points, title, groups))
    return {"hconcat": panels, "config": _CONFIG} if panels else None


def _rank_panel(points: list[dict[str, Any]], title: str, groups: list[str]) -> dict[str, Any]:
    scale = {"type": "log", "nice": False} if title == PER_NEGATIVE else {"zero": title != _PANELS["score"][0]}
    colour = {"field": "step", "type": "ordinal", "scale": {"scheme": "viridis", "reverse": True}}
    return {
        "width": 260,
        "height": 220,
        "data": {"values": points},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "rank", "type": "ordinal", "sort": groups, "title": "rank, 1 the hardest"},
            "y": {"field": "value", "type": "quantitative", "title": title, "scale": scale},
            "color": colour | {"legend": {"title": "training step"}},
        },
    }


def _values(row: dict[str, Any], title: str, path: Sequence[str], ends: Sequence[int]) -> list[float | None]:
    """Values as the report page draws them.

    Gradient shares are means over a group's negatives, because groups grow in size.
    """
    from contrast.report.curves import per_negative, value_at
    from contrast.report.numbers import number

    found = [number(value) for value in _at(row, path)]
    if title != PER_NEGATIVE:
        return found
    return per_negative(found, {"rank_ends": ends}, number(value_at(row, "gradient", "negatives")))


def _at(row: dict[str, Any], path: Sequence[str]) -> list[float | None]:
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, list) else []
