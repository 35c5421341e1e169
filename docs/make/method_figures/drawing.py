"""The look of the figures: the report's light colours, panels side by side, and one way to SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import torch
import vl_convert

import contrast.report

_THEME = json.loads((Path(contrast.report.__file__).parent / "assets" / "theme.json").read_text())
_LIGHT: dict[str, str] = _THEME["colours"]["light"]
_FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"

INK, MUTED, RULE, WASH, CARD = (_LIGHT[name] for name in ("ink", "muted", "rule", "wash", "card"))
POSITIVE, NEGATIVE = _LIGHT["positive"], _LIGHT["negative"]
PALE_NEGATIVE = _LIGHT["negative-2"]
PAIR_MIX, QUERY_MIX, QUERY = _LIGHT["run-4"], _LIGHT["run-6"], INK
SERIES = [_LIGHT[f"run-{place}"] for place in (0, 1, 2, 3, 4)]

Layer = alt.Chart | alt.LayerChart


def table(**columns: Any) -> alt.InlineData:
    """Columns as rows of numbers short enough for a small file; a single value goes into every row."""
    lists = {name: _listed(column) for name, column in columns.items()}
    length = max(len(column) for column in lists.values())
    whole = {name: column * length if len(column) == 1 else column for name, column in lists.items()}
    names = list(whole)
    return alt.InlineData(values=[dict(zip(names, row, strict=True)) for row in zip(*whole.values(), strict=True)])


def panel(
    *layers: Layer, title: str, note: str = "", width: int = 340, height: int = 260, offset: int = 12
) -> alt.LayerChart:
    """Layers on one pair of axes, under a title and a line that says how to read them; `offset` aligns titles."""
    lines = [line.strip() for line in note.split("\n")] if note else []
    heading = alt.Title(
        title, subtitle=lines, subtitleColor=MUTED, subtitleFontSize=12, subtitlePadding=4, frame="group", offset=offset
    )
    return alt.layer(*layers).properties(title=heading, width=width, height=height)


def beside(*panels: alt.LayerChart | alt.VConcatChart | alt.HConcatChart, spacing: int = 36) -> alt.HConcatChart:
    """Panels side by side, each with scales of its own."""
    return alt.hconcat(*panels, spacing=spacing).resolve_scale(color="independent", x="independent", y="independent")


def x_axis(
    column: str,
    title: str,
    domain: Sequence[float] | None = None,
    number: str = ",.4~g",
    log: bool = False,
    **axis: Any,
) -> alt.X:
    return alt.X(f"{column}:Q", title=title, scale=_scale(domain, log), axis=alt.Axis(format=number, **axis))


def y_axis(
    column: str,
    title: str,
    domain: Sequence[float] | None = None,
    number: str = ",.4~g",
    log: bool = False,
    **axis: Any,
) -> alt.Y:
    return alt.Y(f"{column}:Q", title=title, scale=_scale(domain, log), axis=alt.Axis(format=number, **axis))


def colours(column: str, chosen: dict[str, str], columns: int = 2, symbol: str = "square") -> alt.Color:
    """A named colour for each kind, in a legend below the panel: above it, titles beside each other would not align."""
    legend = alt.Legend(title=None, orient="bottom", columns=columns, symbolType=symbol, symbolOpacity=1)
    return alt.Color(f"{column}:N", scale=alt.Scale(domain=list(chosen), range=list(chosen.values())), legend=legend)


def said(x: float, y: float, text: str, color: str = MUTED, dx: float = 0, dy: float = 0, align: str = "left") -> Layer:
    """Words at a place."""
    mark = alt.Chart(table(x=[x], y=[y], text=[text])).mark_text(
        align=align, baseline="middle", dx=dx, dy=dy, color=color, fontSize=12
    )
    return mark.encode(x="x:Q", y="y:Q", text="text:N")


def densities(
    values: dict[str, torch.Tensor], chosen: dict[str, str], span: tuple[float, float], x: str, columns: int = 3
) -> list[Layer]:
    """Histograms of several kinds in one panel, each of area 1; what lies beyond counts in the end bins."""
    low, high = span
    bins = 48
    edges = torch.linspace(low, high, bins + 1)
    rows: dict[str, list[Any]] = {"kind": [], "low": [], "density": []}
    for kind, numbers in values.items():
        flat = numbers.detach().float().flatten().clamp(low, high)
        counts = torch.histogram(flat, edges).hist / (len(flat) * (high - low) / bins)
        rows["kind"] += [kind] * (bins + 1)
        rows["low"] += edges.tolist()
        rows["density"] += [*counts.tolist(), 0.0]
    up = y_axis("density", "density (per unit of score)").stack(None)
    base = alt.Chart(table(**rows)).encode(x=x_axis("low", x, span), y=up, color=colours("kind", chosen, columns))
    means = table(kind=list(values), mean=[numbers.mean().item() for numbers in values.values()])
    rule = alt.Chart(means).mark_rule(strokeDash=[4, 3], strokeWidth=1.4).encode(x="mean:Q", color="kind:N")
    return [
        base.mark_area(interpolate="step-after", opacity=0.1),
        base.mark_line(interpolate="step-after", strokeWidth=1.8),
        rule,
    ]


def svg(chart: alt.TopLevelMixin) -> str:
    """The drawing, with a light background of its own, so that it can be read on a dark page too."""
    drawn: str = vl_convert.vegalite_to_svg({**chart.to_dict(), "config": _config()})
    return drawn


def _config() -> dict[str, Any]:
    vega = {key: _THEME["vega"][key] for key in ("view", "title", "axis", "axisX", "axisY", "legend", "line")}
    resolved = json.loads(json.dumps(vega), object_hook=_resolve)
    resolved["axis"]["labelFlush"] = False
    return {**resolved, "aria": False, "font": _FONT, "background": CARD, "padding": 18, "concat": {"spacing": 36}}


def _resolve(node: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _LIGHT[value.removeprefix("theme:")] if isinstance(value, str) and value.startswith("theme:") else value
        for key, value in node.items()
    }


def _scale(domain: Sequence[float] | None, log: bool) -> alt.Scale:
    kind = "log" if log else "linear"
    return alt.Scale(type=kind, zero=False) if domain is None else alt.Scale(type=kind, domain=list(domain), nice=False)


def _listed(column: Any) -> list[Any]:
    if isinstance(column, torch.Tensor):
        column = column.detach().flatten().tolist()
    if isinstance(column, str) or not isinstance(column, Iterable):
        column = [column]
    return [_short(value) for value in column]


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None
