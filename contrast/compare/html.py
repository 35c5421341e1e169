"""The table of a comparison as one self-contained HTML page, in the style of the report."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from statistics import fmean
from typing import Any

from markupsafe import Markup

from contrast.compare.markdown import made_with
from contrast.compare.table import accuracy_titles
from contrast.report.page import asset, page_style, template_environment

__all__ = ["build_page"]

_EDGE = 3.0  # percent of a drawing's width that stays free on each side
_STEPS = (1, 2, 5, 10)
_MOST_TICKS = 6
_STATES = {"finished": "●", "failed": "✕", "left": "○"}


@dataclass(frozen=True)
class Scale:
    """Horizontal scale of drawings: percentage points to percent of the drawing's width.

    Attributes:
        low: value at the left edge.
        high: value at the right edge.
    """

    low: float
    high: float

    def place(self, value: float) -> float:
        """Position of a value in percent of the width; values outside the scale are moved to its edge."""
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + (100 - 2 * _EDGE) * min(1.0, max(0.0, share)), 2)

    def ticks(self) -> list[float]:
        """Round values within the scale, at most `_MOST_TICKS`."""
        rough = (self.high - self.low) / _MOST_TICKS
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * each for each in _STEPS if power * each >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 6) + 0.0 for number in range(first, last + 1)]


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        name: name of the row or baseline.
        note: further words below the name.
        text: mean and interval.
        drawing: drawing of the interval and of the seeds.
        difference: difference to the base row, with its interval; empty if there is none.
        change: drawing of the difference.
        kind: "row" or "baseline".
        sign: "gain" or "loss" if the interval of the difference excludes zero, otherwise "none".
    """

    name: str
    note: str
    text: str
    drawing: Markup
    difference: str
    change: Markup
    kind: str
    sign: str


def build_page(table: Mapping[str, Any], command: str) -> str:
    """Render a comparison as one HTML page, which loads nothing over the network.

    Args:
        table: table from `contrast.compare.table.summarise`.
        command: the command that measured it.

    Returns:
        The whole page as HTML.
    """
    titles = accuracy_titles(table["evaluate"])
    figures = [_figure(table, name, title) for name, title in titles.items()]
    cells = _cells(table)
    count = sum(len(line["states"]) for line in cells)
    finished = sum(state["kind"] == "finished" for line in cells for state in line["states"])
    return (
        template_environment(_own_asset)
        .get_template("compare.html")
        .render(
            table=table,
            figures=figures,
            cards=[_card(figure) for figure in figures],
            notices=_notices(table, figures),
            lede=_lede(table, finished, count),
            cells=cells,
            costs=_costs(table),
            made=made_with(table, command),
            style=Markup(f"{page_style()}\n{_own_asset('compare.css')}"),
            scripts=[Markup(f"{asset('theme.js')}\n{_own_asset('compare.js')}")],
        )
    )


@functools.cache
def _own_asset(name: str) -> str:
    return resources.files("contrast.compare").joinpath("assets", name).read_text(encoding="utf-8")


def _lede(table: Mapping[str, Any], finished: int, count: int) -> str:
    rows, seeds, columns = len(table["rows"]), len(table["seeds"]), len(table["columns"])
    parts = [_counted(rows, "row"), *([_counted(columns, "column")] if columns else []), _counted(seeds, "seed")]
    done = "all" if finished == count else f"{finished}"
    return f"{' × '.join(parts)}: {done} of {_counted(count, 'cell')} {'is' if count == 1 else 'are'} finished."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _figure(table: Mapping[str, Any], name: str, title: str) -> dict[str, Any]:
    """Lines of one accuracy, column by column, on one scale."""
    entries, baselines = table["entries"], table["baselines"]
    near = [entry for entry in baselines if entry["row"] != _lowest(baselines, name)] or baselines
    ends = [100 * entry["numbers"][name][end] for entry in (*entries, *near) for end in ("low", "high")]
    scale = _scale(ends)
    differences = [entry["numbers"][name]["difference"] for entry in entries]
    reach = max((abs(100 * each[end]) for each in differences if each for end in ("low", "high")), default=0.0)
    change = Scale(-1.05 * reach, 1.05 * reach) if reach else None
    groups = []
    for column in dict.fromkeys(entry["column"] for entry in entries):
        own = [entry for entry in baselines if entry["column"] == column]
        guides = [100 * entry["numbers"][name]["mean"] for entry in own if entry in near]
        lines = [_line(entry, name, scale, change, guides, table) for entry in entries if entry["column"] == column]
        lines += [_line(entry, name, scale, None, guides, table) for entry in own]
        groups.append({"column": column, "lines": lines})
    return {
        "name": name,
        "title": title[0].upper() + title[1:] if title[0].islower() and title[:3] != "kNN" else title,
        "groups": groups,
        "axis": _axis(scale, ""),
        "changes": None if change is None else _axis(change, "+"),
        "base": _common_base(table),
        "guides": _guide_words(baselines, near, name),
        "entries": entries,
        "baselines": baselines,
    }


def _lowest(baselines: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """The baseline with the lowest mean, which would stretch the scale: usually the majority class."""
    if len({entry["row"] for entry in baselines}) < 3:
        return None
    lowest = min(baselines, key=lambda entry: float(entry["numbers"][name]["mean"]))
    return str(lowest["row"])


def _scale(ends: Sequence[float]) -> Scale:
    low, high = min(ends), max(ends)
    room = max(0.04 * (high - low), 0.2)
    return Scale(max(0.0, low - room), min(100.0, high + room))


def _common_base(table: Mapping[str, Any]) -> str:
    bases = {entry["base"] for entry in table["entries"]} - {None}
    return "its base" if bases - {table["baseline"]} else str(table["baseline"])


def _guide_words(
    baselines: Sequence[Mapping[str, Any]], near: Sequence[Mapping[str, Any]], name: str
) -> list[tuple[str, str]]:
    """Name and mean of each baseline that the drawings show as a vertical line."""
    rows = dict.fromkeys(entry["row"] for entry in near)
    found = []
    for row in rows:
        values = [100 * entry["numbers"][name]["mean"] for entry in baselines if entry["row"] == row]
        low, high = f"{min(values):.1f}", f"{max(values):.1f}"
        found.append((str(row), low if low == high else f"{low} to {high}"))
    return found


def _line(
    entry: Mapping[str, Any],
    name: str,
    scale: Scale,
    change: Scale | None,
    guides: Sequence[float],
    table: Mapping[str, Any],
) -> Line:
    number, trained = entry["numbers"][name], "base" in entry
    difference = number.get("difference")
    mean, low, high = _percent(number)
    same = len(set(number["values"])) == 1 < len(number["values"])
    interval = "" if same or low is None else f"{low:.1f} to {high:.1f}"
    notes = []
    if trained and entry["base"] not in (None, table["baseline"]):
        notes.append(f"against {entry['base']}")
    if len(entry["seeds"]) < len(table["seeds"]):
        notes.append(f"{len(entry['seeds'])} of {len(table['seeds'])} seeds")
    sign, words, drawn = "none", "", Markup("")
    if difference is not None and change is not None:
        middle, left, right = _percent(difference)
        sign = "gain" if left > 0 else "loss" if right < 0 else "none"
        words = f"{_signed(middle)} ({_signed(left)} to {_signed(right)})"
        drawn = _drawing(change, middle, left, right, [], [0.0], words)
    values = [100 * value for value in number["values"]]
    text = f"{mean:.1f} ({interval})" if interval else f"{mean:.1f}"
    return Line(
        name=entry["row"],
        note="; ".join(notes),
        text=text,
        drawing=_drawing(scale, mean, mean if same else low, mean if same else high, values, guides, text),
        difference=words,
        change=drawn,
        kind="row" if trained else "baseline",
        sign=sign,
    )


def _percent(number: Mapping[str, Any]) -> tuple[float, float, float]:
    mean, low, high = (round(100 * number[end], 1) + 0.0 for end in ("mean", "low", "high"))
    return mean, low, high


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _drawing(
    scale: Scale,
    mean: float,
    low: float,
    high: float,
    seeds: Sequence[float],
    guides: Sequence[float],
    words: str,
) -> Markup:
    """Interval, mean and seeds as an SVG that fills its table cell; positions are percentages, so that it stretches."""
    parts = [
        Markup('<line class="guide guide-{}" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(k, x=scale.place(value))
        for k, value in enumerate(guides)
    ]
    if mean < scale.low or mean > scale.high:
        left = mean < scale.low
        words_of_edge = f"◂ {mean:.1f}" if left else f"{mean:.1f} ▸"
        parts.append(
            Markup('<text class="outside" x="{}%" y="50%" dy="0.35em" text-anchor="{}">{}</text>').format(
                _EDGE if left else 100 - _EDGE, "start" if left else "end", words_of_edge
            )
        )
    else:
        parts.append(
            Markup('<line class="range" x1="{}%" x2="{}%" y1="50%" y2="50%"/>').format(
                scale.place(low), scale.place(high)
            )
        )
        parts += [
            Markup('<circle class="seed" cx="{}%" cy="50%" r="2.4"/>').format(scale.place(value)) for value in seeds
        ]
        parts.append(Markup('<circle class="mean" cx="{}%" cy="50%" r="4.5"/>').format(scale.place(mean)))
    return Markup('<svg role="img" aria-label="{}">{}</svg>').format(words, Markup("").join(parts))


def _axis(scale: Scale, sign: str) -> Markup:
    ticks = [
        Markup('<text x="{}%" y="100%" dy="-0.55em" text-anchor="middle">{}</text>').format(
            scale.place(value), f"{value:{sign if value else ''}g}".replace("-", "−")
        )
        for value in scale.ticks()
    ]
    return Markup('<svg aria-hidden="true">{}</svg>').format(Markup("").join(ticks))


def _card(figure: Mapping[str, Any]) -> dict[str, str]:
    means = [100 * entry["numbers"][figure["name"]]["mean"] for entry in figure["entries"]]
    low, high = f"{min(means):.1f}", f"{max(means):.1f}"
    rows = dict.fromkeys(entry["row"] for entry in figure["baselines"])
    words = []
    for row in rows:
        values = [100 * e["numbers"][figure["name"]]["mean"] for e in figure["baselines"] if e["row"] == row]
        words.append(f"{row} {fmean(values):.1f}")
    value = f"{low} %" if low == high else f"{low} to {high} %"
    return {"label": figure["title"], "value": value, "detail": ", ".join(words)}


def _notices(table: Mapping[str, Any], figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on what limits the reading of the table."""
    notices = []
    if table["failed"]:
        notices.append(f"{_counted(len(table['failed']), 'cell')} failed: see Cells. Type the command again to retry.")
    others = len(table["unfinished"]) - len(table["failed"])
    if others:
        notices.append(f"{_counted(others, 'cell')} not finished yet: the command continues where it stopped.")
    for figure in figures:
        raw = [entry for entry in figure["baselines"] if entry["row"].startswith("raw ")]
        above = [
            entry
            for entry in figure["entries"]
            for base in raw
            if base["column"] == entry["column"]
            and entry["numbers"][figure["name"]]["mean"] > base["numbers"][figure["name"]]["mean"]
        ]
        if raw and not above:
            notices.append(
                f"{figure['title']}: no row is above {raw[0]['row']}, so small differences between rows cannot show."
            )
    differences = [entry["numbers"][figure["name"]]["difference"] for figure in figures for entry in figure["entries"]]
    drawn = sum(each is not None for each in differences)
    if len(table["seeds"]) == 1:
        notices.append("One seed: intervals are over test samples, and rows are not compared.")
    elif drawn >= 20:
        notices.append(
            f"Of {drawn} differences, about {round(drawn / 20)} would exclude zero by chance even if no row differed."
        )
    return notices


def _places(table: Mapping[str, Any]) -> list[tuple[str | None, int]]:
    return [(column, seed) for column in (table["columns"] or [None]) for seed in table["seeds"]]


def _cells(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """State of every cell, row by row."""
    left = set(table["unfinished"])
    lines = []
    for row in table["rows"]:
        states = []
        for column, seed in _places(table):
            name = " / ".join(part for part in (row, column, f"seed {seed}") if part is not None)
            kind = "failed" if name in table["failed"] else "left" if name in left else "finished"
            states.append({"kind": kind, "sign": _STATES[kind], "name": name, "line": table["failed"].get(name, "")})
        lines.append({"row": row, "states": states})
    return lines


def _costs(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Time of training, of a step and of the loss, for each row and column."""
    lines = []
    for entry in table["entries"]:
        cost, ratio = entry["loss_cost"], entry["step_ratio"]
        step = None if cost is None else cost["step_seconds"]
        lines.append(
            {
                "column": entry["column"],
                "row": entry["row"],
                "base": entry["base"],
                "seconds": f"{fmean(entry['train_seconds']):,.0f} s",
                "step": None if step is None else f"{1000 * step:.1f} ms",
                "ratio": 1.0 if entry["base"] is None else ratio,
                "share": None if cost is None else cost["share"],
            }
        )
    most = max((line["ratio"] for line in lines if line["ratio"]), default=1.0)
    shares = max((line["share"] for line in lines if line["share"]), default=1.0)
    for line in lines:
        for name, top in (("ratio", most), ("share", shares)):
            line[f"{name}_bar"] = None if line[name] is None else _bar(line[name] / top)
    return lines


def _bar(share: float) -> Markup:
    return Markup('<svg class="bar-of" aria-hidden="true"><rect width="{}%" height="100%" rx="2"/></svg>').format(
        round(100 * share, 1)
    )
