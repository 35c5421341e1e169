"""The table as Markdown, its place between two markers of a page, and the table for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from contrast.compare.table import accuracy_titles
from contrast.errors import InputError
from contrast.runs.files import whole_file

__all__ = ["baseline_lines", "check_page", "made_with", "put_into_page", "rendered", "terminal_table"]

_NONE = "–"
_SEVERAL = "its base"
_UNTRAINED = " *In italics*: baselines, which are not trained."


def rendered(table: Mapping[str, Any], command: str) -> str:
    """Render the table as Markdown, with notes on how it was measured.

    Args:
        table: table from `contrast.compare.table.summarise`.
        command: the command that measured it.
    """
    kinds, base = accuracy_titles(table["evaluate"]), _base(table)
    # Titles of the first cells of a line; a cell that says nothing in this grid is left out.
    first = {"column": table["axis"], "row": "method", "base": "against"}
    shown = [key for key in first if key == "row" or (table["columns"] if key == "column" else base == _SEVERAL)]
    heads = [first[key] for key in shown]
    for title in kinds.values():
        heads += [title, f"less {base}"]
    heads += ["time", "a step", "loss in a step", "seeds"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for column in dict.fromkeys(entry["column"] for entry in table["entries"]):
        for entry in (entry for entry in table["entries"] if entry["column"] == column):
            lines.append(_line([*(entry[key] or _NONE for key in shown), *_cells(entry, list(kinds))]))
        own = [entry for entry in table.get("baselines", ()) if entry["column"] == column]
        lines += baseline_lines(own, list(kinds), bool(table["columns"]), base == _SEVERAL)
    return "\n".join([*lines, "", *_notes(table, command)]) + "\n"


def baseline_lines(entries: Sequence[Mapping[str, Any]], kinds: Sequence[str], columns: bool, bases: bool) -> list[str]:
    """Render the baselines as lines of the Markdown table.

    Args:
        entries: entries from `contrast.compare.table.summarise_baselines`.
        kinds: names of the accuracies.
        columns: whether the table has a column for the grid's columns.
        bases: whether the table has a column for the row that a row is compared with.
    """
    lines = []
    for entry in entries:
        first = [*([entry["column"]] if columns else []), f"*{entry['row']}*", *([_NONE] if bases else [])]
        texts = [text for kind in kinds for text in (_of_seeds(entry["numbers"][kind]), _NONE)]
        lines.append(_line([*first, *texts, _NONE, _NONE, _NONE, str(len(entry["seeds"]))]))
    return lines


def _of_seeds(number: Mapping[str, Any]) -> str:
    """Mean and interval; no interval if all seeds have the same value, as raw input has on the same data."""
    text = _interval(number, "")
    return text.partition(" (")[0] if len(set(number["values"])) == 1 < len(number["values"]) else text


def _base(table: Mapping[str, Any]) -> str:
    bases = {entry["base"] for entry in table["entries"]} - {None}
    return _SEVERAL if bases - {table["baseline"]} else table["baseline"]


def _cells(entry: Mapping[str, Any], kinds: list[str]) -> list[str]:
    texts = []
    for kind in kinds:
        number = entry["numbers"][kind]
        texts += [_interval(number, ""), _difference(number["difference"])]
    ratio, cost = entry["step_ratio"], entry["loss_cost"]
    share = None if cost is None else cost["share"]
    return [
        *texts,
        f"{fmean(entry['train_seconds']):.0f} s",
        "1" if entry["base"] is None else _NONE if ratio is None else f"{ratio:.2f}",
        _NONE if share is None else f"{100 * share:.1f} %",
        str(len(entry["seeds"])),
    ]


def _difference(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return _NONE
    text = _interval(difference, "+")
    _, low, high = _percent(difference)
    return f"**{text}**" if low > 0 or high < 0 else text  # as it is printed: an end of 0.0 leaves zero in


def _interval(number: Mapping[str, Any], sign: str) -> str:
    mean, low, high = (f"{end:{sign}.1f}".replace("-", "−") for end in _percent(number))
    return f"{mean} ({low} to {high})"


def _percent(number: Mapping[str, Any]) -> list[float]:
    return [round(100 * number[end], 1) + 0.0 for end in ("mean", "low", "high")]  # + 0.0: no minus before a zero


def _notes(table: Mapping[str, Any], command: str) -> list[str]:
    counts = {len(entry["seeds"]) for entry in table["entries"]}
    wilson = "Wilson's over the test samples" + (", of one seed" if counts == {1} else " where there is one seed")
    over = wilson if counts == {1} else "Student's t over seeds" + (f", {wilson}" if 1 in counts else "")
    base, made = _base(table), made_with(table, command)
    notes = [
        f"Top-1 in %, mean and 95 % interval ({over}); with few labels, a seed's value is the mean of "
        f"{table['evaluate']['splits']} choices of labels. *less {base}*: difference in points, paired by seed; bold "
        "if the interval excludes zero. If it includes zero, these seeds show no difference. *time*: of pretraining, "
        f"beside other cells. *a step*: time of a training step with nothing beside it, {base} = 1. *loss in a step*: "
        "share of the loss, forward and backward, in that time." + (_UNTRAINED if table.get("baselines") else ""),
        "",
        f"- `{made['command']}`, {made['commits']}, seeds {made['seeds']}",
        *(f"- {line}" for line in (*made["data"], *made["machines"])),
    ]
    if table["unfinished"]:
        notes.append(f"- not finished: {'; '.join(table['unfinished'])}")
    return notes


def made_with(table: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Describe in words what a table was measured with: command, commits, seeds, data and machines.

    Args:
        table: table from `contrast.compare.table.summarise`.
        command: the command that measured it.
    """
    commits = [f"commit {each}" if re.match(r"[0-9a-f]{7}", each) else each for each in table["commits"]]
    said = ", ".join([each if place == 0 else each.removeprefix("commit ") for place, each in enumerate(commits)])
    return {
        "command": command,
        "commits": said,
        "seeds": ", ".join(map(str, table["seeds"])),
        "data": list(dict.fromkeys(_data(data) for data in table["data"])),  # they may differ in the views only
        "machines": list(dict.fromkeys(_machine(machine) for machine in table["machines"])),
    }


def _data(data: Mapping[str, Any]) -> str:
    train, test = data["train"], data["test"]
    name = train["set"].rpartition(".")[2]
    return f"{name}: {train['samples']:,} training samples, {test['samples']:,} test samples"


def _machine(machine: Mapping[str, Any]) -> str:
    device = "" if machine["device"] == "CPU" else f", {machine['device']}"
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return (
        f"{machine['processor']}{device}, torch {machine['torch']}, {threads} a cell, "
        f"{machine.get('cells_at_a_time', 1)} at a time"
    )


def terminal_table(table: Mapping[str, Any]) -> str:
    """Render the table for a terminal: means, and differences with the half width of their interval.

    Args:
        table: table from `contrast.compare.table.summarise`.
    """
    kinds, base = accuracy_titles(table["evaluate"]), _base(table)
    heads = [*([table["axis"]] if table["columns"] else []), "method"]
    left = len(heads)
    for title in kinds.values():
        heads += [title, f"less {base if len(base) <= 12 else 'its base'}"]
    lines = [[*heads, "time", "a step", "seeds"]]
    for column in dict.fromkeys(entry["column"] for entry in table["entries"]):
        first = [] if column is None else [column]
        for entry in (entry for entry in table["entries"] if entry["column"] == column):
            ratio = entry["step_ratio"]
            cells = [text for kind in kinds for text in _short(entry["numbers"][kind])]
            step = "1" if entry["base"] is None else _NONE if ratio is None else f"{ratio:.2f}"
            seeds = f"{len(entry['seeds'])} of {len(table['seeds'])}"
            lines.append([*first, entry["row"], *cells, f"{fmean(entry['train_seconds']):.0f} s", step, seeds])
        for entry in (entry for entry in table["baselines"] if entry["column"] == column):
            cells = [text for kind in kinds for text in _short(entry["numbers"][kind])]
            lines.append([*first, f"({entry['row']})", *cells, _NONE, _NONE, _NONE])
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:], "", *_legend(table)])


def _short(number: Mapping[str, Any]) -> list[str]:
    mean, difference = f"{100 * number['mean']:.1f}", number["difference"]
    if difference is None:
        return [mean, _NONE]
    middle, low, high = _percent(difference)
    mark = "*" if low > 0 or high < 0 else " "
    return [mean, f"{middle:+.1f} ±{(high - low) / 2:.1f}{mark}".replace("-", "−")]


def _legend(table: Mapping[str, Any]) -> list[str]:
    lines = ["top-1 in %; differences in points, ± half of the 95 % interval over seeds, * if it excludes zero"]
    if table["baselines"]:
        lines.append("in brackets: baselines, which are not trained")
    if table["unfinished"]:
        lines.append(f"not finished: {'; '.join(table['unfinished'])}")
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def check_page(page: Path, name: str, kind: str = "compare", maker: str = "contrast compare") -> None:
    """Refuse a page that has no place for the table.

    Args:
        page: the Markdown page.
        name: name of the table.
        kind: kind of the table; the markers carry both.
        maker: program that makes the table, for the marker.

    Raises:
        InputError: if the page or one of the two markers is missing, or a marker is there twice.
    """
    _split(page, name, kind, maker)


def put_into_page(page: Path, name: str, text: str, kind: str = "compare", maker: str = "contrast compare") -> None:
    """Replace the text between the two markers of a page; the rest of the page is unchanged.

    Args:
        page: the Markdown page.
        name: name of the table.
        text: the table.
        kind: kind of the table.
        maker: program that makes the table. A marker that names another program is accepted and replaced.

    Raises:
        InputError: as in `check_page`.
    """
    before, after = _split(page, name, kind, maker)
    with whole_file(page) as part:
        part.write_text(f"{before}{_begin(name, kind, maker)}\n\n{text}\n{_end(name, kind)}{after}", encoding="utf-8")


def _begin(name: str, kind: str, maker: str) -> str:
    return f"<!-- {kind} {name}: made by {maker}, not by hand -->"


def _end(name: str, kind: str) -> str:
    return f"<!-- end of {kind} {name} -->"


def _split(page: Path, name: str, kind: str, maker: str) -> tuple[str, str]:
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    pattern = re.compile(rf"<!-- {re.escape(kind)} {re.escape(name)}: made by [^\n>]*, not by hand -->")
    end = _end(name, kind)
    begins = list(pattern.finditer(text))
    if len(begins) != 1 or text.count(end) != 1 or text.index(end) < begins[0].end():
        begin = _begin(name, kind, maker)
        raise InputError(f"{str(page)!r} needs two lines once, for the table to go between: {begin} and {end}")
    return text[: begins[0].start()], text[text.index(end) + len(end) :]
