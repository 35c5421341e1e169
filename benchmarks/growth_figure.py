"""Growth drawn: for each axis a panel of time and one of memory, on logarithmic scales, with the fitted power law."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import altair as alt
import vl_convert

from benchmarks.growth import larger_half
from contrast.compare.figure import painted

__all__ = ["draw"]

_SIZE, _VERSION = {"width": 380, "height": 130}, "6.4"
_PARTS = {"seconds": "CPU seconds", "mebibytes": "MiB beyond the rows"}


def draw(axes: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG: a row an axis, time on the left and memory on the right."""
    columns = [alt.vconcat(*(_panel(axis, part) for axis in axes)) for part in _PARTS]
    theme = json.loads(resources.files("contrast.report").joinpath("assets", "theme.json").read_text(encoding="utf-8"))
    spec = painted({**alt.hconcat(*columns, spacing=40).to_dict(), "config": theme["vega"]}, theme["colours"]["light"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(vl_convert.vegalite_to_svg(spec, vl_version=_VERSION), encoding="utf-8")


def _panel(axis: dict[str, Any], part: str) -> alt.TopLevelMixin:
    points = [(float(each["size"]), max(float(each[part]), 1e-4)) for each in axis["points"]]
    power = axis["exponents"][part]
    grows = "" if power is None else f", exponent {power:.2f}"
    law = points if power is None else _law(points, power)
    chosen = [size for size, _ in points][:: max(1, len(points) // 4)]
    values = [value for _, value in points + law]
    x = alt.X(
        "size:Q",
        title=axis["title"],
        scale=alt.Scale(type="log", base=2, nice=False, padding=10),
        axis=alt.Axis(values=chosen, format=",d"),
    )
    scale = alt.Scale(type="log", nice=False, domain=[min(values) / 1.4, max(values) * 1.4])
    y = alt.Y("value:Q", title=_PARTS[part], scale=scale, axis=alt.Axis(values=_ticks(values), format="~g"))
    line = alt.Chart(_inline(law)).mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y=y)
    dots = alt.Chart(_inline(points)).mark_point(size=45, filled=True, opacity=1).encode(x=x, y=y)
    return alt.layer(line, dots, title=f"{_PARTS[part]}{grows}").properties(**_SIZE)


def _law(points: list[tuple[float, float]], power: float) -> list[tuple[float, float]]:
    """The fitted law over the points that it is fitted to."""
    half = larger_half(points)
    middle, level = (geometric_mean(each) for each in zip(*half, strict=True))
    return [(size, level * (size / middle) ** power) for size, _ in half]


def _ticks(values: list[float]) -> list[float]:
    """Powers of ten, or where there are fewer than two, 1, 2 and 5 times these."""
    low, high = math.floor(math.log10(min(values) / 1.4)), math.ceil(math.log10(max(values) * 1.4))
    for steps in ((1,), (1, 2, 5)):
        inside = [step * 10.0**each for each in range(low, high + 1) for step in steps]
        inside = [each for each in inside if min(values) / 1.4 <= each <= max(values) * 1.4]
        if len(inside) > 1:
            break
    return inside


def _inline(points: list[tuple[float, float]]) -> alt.InlineData:
    return alt.InlineData(values=[{"size": size, "value": value} for size, value in points])
