"""Figure of a grid with columns: one line per row over the columns, intervals as bands, in the report's colours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from contrast.errors import InputError, did_you_mean
from contrast.report.charts import run_scales
from contrast.report.page import asset
from contrast.runs.files import whole_file

__all__ = ["check_figure", "draw", "painted"]

_WIDTH, _HEIGHT, _VERSION = 560, 300, "6.4"


def check_figure(path: Path, columns: int) -> None:
    """Refuse a file that is neither SVG nor PNG, and a grid without columns.

    Args:
        path: the file to draw into.
        columns: number of columns of the grid.

    Raises:
        InputError: for either.
    """
    if path.suffix not in (".svg", ".png"):
        raise InputError(f"--figure {path}: give a name that ends in .svg or .png")
    if columns < 2:
        raise InputError("--figure draws a line over columns, and this grid has none: write them under `columns:`")


def draw(table: Mapping[str, Any], metric: str, path: Path) -> None:
    """Draw one number of the table into a file.

    Args:
        table: table from `contrast.compare.table.summarise`.
        metric: name of the number in the cells, for example "linear".
        path: an SVG or PNG file.

    Raises:
        InputError: if the cells have no such number.
    """
    known = {name for entry in table["entries"] for name in entry["numbers"]}
    if metric not in known:
        raise InputError(f"--metric {metric}: no cell has it{did_you_mean(metric, known)}")
    theme = json.loads(asset("theme.json"))
    spec = painted({**_chart(table, metric).to_dict(), "config": theme["vega"]}, theme["colours"]["light"])
    with whole_file(path) as part:
        if path.suffix == ".svg":
            part.write_text(vl_convert.vegalite_to_svg(spec, vl_version=_VERSION), encoding="utf-8")
        else:
            part.write_bytes(vl_convert.vegalite_to_png(spec, vl_version=_VERSION, scale=2))


def _chart(table: Mapping[str, Any], metric: str) -> alt.TopLevelMixin:
    rows = list(dict.fromkeys(entry["row"] for entry in table["entries"]))
    numbers = _numbers(table["columns"])
    points = [_point(entry, metric, numbers) for entry in table["entries"]]
    colours, dashes = run_scales(rows)
    legend = alt.Legend(title=None, orient="top", columns=3, symbolType="stroke", symbolOpacity=1)
    base = alt.Chart(alt.InlineData(values=points)).encode(
        x=_across(table, numbers),
        color=alt.Color("row:N", scale=colours, legend=legend),
        strokeDash=alt.StrokeDash("row:N", scale=dashes, legend=legend),
    )
    title = f"{_title(metric, table['evaluate'])} (%)"
    up = alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.15, strokeOpacity=0).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    line = base.mark_line(strokeWidth=2, point={"size": 30, "filled": True}).encode(y=up)
    return alt.layer(band, line).properties(width=_WIDTH, height=_HEIGHT)


def _point(entry: Mapping[str, Any], metric: str, numbers: Mapping[str, float]) -> dict[str, Any]:
    number = entry["numbers"][metric]
    ends = {end: None if number[end] is None else 100 * number[end] for end in ("mean", "low", "high")}
    return {"row": entry["row"], "column": numbers.get(entry["column"], entry["column"]), **ends}


def _across(table: Mapping[str, Any], numbers: Mapping[str, float]) -> alt.X:
    """Horizontal axis: numeric columns at their values, on a log scale from three doublings on; others in order."""
    if not numbers:
        return alt.X("column:N", title=table["axis"], sort=table["columns"], axis=alt.Axis(labelAngle=0))
    values = sorted(numbers.values())
    doubling = values[0] > 0 and values[-1] >= 8 * values[0]
    scale = alt.Scale(type="log", base=2, nice=False) if doubling else alt.Scale(zero=False, nice=False)
    return alt.X("column:Q", title=table["axis"], scale=scale, axis=alt.Axis(values=values, format="~g"))


def _numbers(columns: Sequence[str]) -> dict[str, float]:
    """Values of the columns if all of them are numbers, else empty."""
    try:
        values = {column: float(column) for column in columns}
    except ValueError:
        return {}
    return values if all(map(math.isfinite, values.values())) else {}


def _title(metric: str, evaluate: Mapping[str, Any]) -> str:
    few = f"top-1 with {evaluate['per_class']} labels a class"
    titles = {"linear": "top-1 of a linear probe", "few_label": few, "knn": f"top-1 of kNN-{evaluate['neighbours']}"}
    return titles.get(metric, metric.replace("_", " "))


def painted(value: Any, colours: Mapping[str, str]) -> Any:
    """Replace the theme's colour names in a chart specification.

    Args:
        value: the specification, or a part of it.
        colours: colours of one scheme by name.
    """
    if isinstance(value, dict):
        return {name: painted(part, colours) for name, part in value.items()}
    if isinstance(value, list):
        return [painted(part, colours) for part in value]
    return colours[value[6:]] if isinstance(value, str) and value.startswith("theme:") else value
