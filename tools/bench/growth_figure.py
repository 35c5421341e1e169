"""Growth drawn: a panel an axis for time and one for memory, on logarithmic scales, with the fitted exponents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from tools.compare.figure import painted

__all__ = ["draw"]

_SIZE, _VERSION = {"width": 230, "height": 170}, "6.4"
_PARTS = {"seconds": "CPU seconds", "mebibytes": "MiB at most"}


def draw(axes: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG: a row of panels of time above one of memory, a column an axis."""
    rows = [alt.hconcat(*(_panel(axis, part) for axis in axes)) for part in _PARTS]
    theme = json.loads(resources.files("contrast.report").joinpath("assets", "theme.json").read_text(encoding="utf-8"))
    spec = painted({**alt.vconcat(*rows).to_dict(), "config": theme["vega"]}, theme["colours"]["light"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(vl_convert.vegalite_to_svg(spec, vl_version=_VERSION), encoding="utf-8")


def _panel(axis: dict[str, Any], part: str) -> alt.TopLevelMixin:
    power = axis["exponents"][part]
    grows = "" if power is None else f" grows with exponent {power:.2f}"
    sizes = [point["size"] for point in axis["points"]]
    values = [{"size": point["size"], "value": max(point[part], 1e-4)} for point in axis["points"]]
    return (
        alt.Chart(alt.InlineData(values=values), title=f"{_PARTS[part]}{grows}")
        .mark_line(point={"size": 40, "filled": True}, strokeWidth=2)
        .encode(
            x=alt.X(
                "size:Q",
                title=axis["title"],
                scale=alt.Scale(type="log", base=2, nice=False),
                axis=alt.Axis(values=sizes[:: max(1, len(sizes) // 4)], format="~s"),
            ),
            y=alt.Y(
                "value:Q", title=_PARTS[part], scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=4, format="~g")
            ),
        )
        .properties(**_SIZE)
    )
