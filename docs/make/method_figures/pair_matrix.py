"""Which row is what to which query: the pairs of a tiny batch as a matrix, read off `Pairs` itself."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import torch
from torch import Tensor

from contrast import Pairs
from contrast.losses.exclusion import left_out
from docs.make.method_figures.drawing import INK, MUTED, PALE_NEGATIVE, POSITIVE, panel, table

__all__ = ["KINDS", "cell_panel", "kinds_of", "matrix", "unit_rows"]

KINDS = {
    "positive": POSITIVE,
    "negative": PALE_NEGATIVE,
    "negative, random start": "#f7e3d3",
    "left out: own sample": "#d5d8dc",
    "the query itself": "#8b929b",
}
CELL = 26


def unit_rows(count: int, seed: int = 0) -> Tensor:
    rows = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def matrix(
    pairs: Pairs,
    queries: Sequence[str],
    columns: Sequence[str],
    title: str,
    note: str = "",
    kinds: dict[str, str] | None = None,
    legend: bool = True,
    across: str = "rows",
) -> alt.LayerChart:
    """One cell for each query and row; a positive that is none of the shared rows is a first column, `k`."""
    found = kinds_of(pairs)
    names = list(columns) if found.shape[1] == len(columns) else ["k", *columns]
    order = list(KINDS)
    cells: dict[str, list[object]] = {"row": [], "column": [], "kind": []}
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            cells["row"].append(row)
            cells["column"].append(column)
            cells["kind"].append(order[int(found[row, column])])
    chosen = kinds or {kind: colour for kind, colour in KINDS.items() if kind in cells["kind"]}
    return cell_panel(cells, queries, names, chosen, title, note, legend, across)


def cell_panel(
    cells: dict[str, list[object]],
    queries: Sequence[str],
    names: Sequence[str],
    chosen: dict[str, str],
    title: str,
    note: str = "",
    legend: bool = True,
    across: str = "rows",
) -> alt.LayerChart:
    """Coloured squares under their columns' names, signs in them that do without colour."""
    legends = alt.Legend(title=None, orient="bottom", columns=2, symbolType="square", symbolOpacity=1)
    colour = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(chosen), range=list(chosen.values())),
        legend=legends if legend else None,
    )
    x = alt.X(
        "column:O", title=across, axis=_names(names, orient="top", labelAngle=0), scale=alt.Scale(paddingInner=0.08)
    )
    y = alt.Y("row:O", title="queries", axis=_names(queries), scale=alt.Scale(paddingInner=0.08))
    data = table(**cells)
    squares = alt.Chart(data).mark_rect().encode(x=x, y=y, color=colour)
    signs = alt.Chart(table(**_signs(cells))).mark_text(fontSize=13, baseline="middle")
    tone = alt.Color("ink:N", scale=None)
    marked = signs.encode(x="column:O", y="row:O", text="sign:N", color=tone)
    return panel(
        squares,
        marked,
        title=title,
        note=note,
        width=CELL * len(names),
        height=CELL * len(queries),
    ).resolve_scale(color="independent")


def kinds_of(pairs: Pairs) -> Tensor:
    """Places in KINDS, (b, k) or, with a column for the keys, (b, 1 + k)."""
    out = left_out(pairs, 0, len(pairs.negatives))
    kind = torch.ones_like(out, dtype=torch.int64)
    if pairs.placeholder is not None:
        kind[:, pairs.placeholder] = 2
    kind[out] = 3
    same = (pairs.negatives[None] == pairs.query[:, None]).all(dim=-1)
    positive = (pairs.negatives[None] == pairs.positive[:, None]).all(dim=-1)
    kind[same & out] = 4
    kind[positive] = 0
    if positive.any(dim=1).all():
        return kind
    return torch.cat([torch.zeros(len(kind), 1, dtype=kind.dtype), kind], dim=1)


def _signs(cells: dict[str, list[object]]) -> dict[str, list[object]]:
    """+ on positives, × on what is left out, for those who do not tell the colours."""
    signs: dict[str, list[object]] = {"row": [], "column": [], "sign": [], "ink": []}
    for row, column, kind in zip(cells["row"], cells["column"], cells["kind"], strict=True):
        sign = "+" if str(kind).startswith("positive") else "×" if str(kind).startswith("left out") else ""
        if sign:
            for name, value in zip(signs, (row, column, sign, "#ffffff" if sign == "+" else MUTED), strict=True):
                signs[name].append(value)
    return signs


def _names(names: Sequence[str], **more: object) -> alt.Axis:
    listed = "[" + ",".join(f"'{name}'" for name in names) + "]"
    text = {"labelExpr": f"{listed}[datum.value]", "labelColor": INK, "labelFontSize": 11}
    return alt.Axis(ticks=False, domain=False, grid=False, **text, **more)
