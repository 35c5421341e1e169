"""The table as Markdown, and its place in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from contrast.errors import InputError

__all__ = ["baseline_lines", "check_page", "put_into_page", "rendered"]

_NONE = "–"
MAKER = "compare"
"""The script of tools/ that makes a table, if nothing else is said."""
_SEVERAL = "its base"
_UNTRAINED = " *In italics*: baselines, which are not trained."


def rendered(table: Mapping[str, Any], command: str) -> str:
    """The table, and below it what it was made with.

    Args:
        table: from `summarise`.
        command: that made it.
    """
    kinds, base = _kinds(table["evaluate"]), _base(table)
    # What the first cells of a line are, and which are shown.
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
    """Lines of the table for what was not trained.

    Args:
        entries: from `summarise_baselines`.
        kinds: names of the accuracies.
        columns: whether the table has a column for the grid's second axis.
        bases: whether it has one for what a row is compared with.
    """
    lines = []
    for entry in entries:
        first = [*([entry["column"]] if columns else []), f"*{entry['row']}*", *([_NONE] if bases else [])]
        texts = [text for kind in kinds for text in (_of_seeds(entry["numbers"][kind]), _NONE)]
        lines.append(_line([*first, *texts, _NONE, _NONE, _NONE, str(len(entry["seeds"]))]))
    return lines


def _of_seeds(number: Mapping[str, Any]) -> str:
    """Without an interval where every seed has the same number, as raw input has on the same data."""
    text = _interval(number, "")
    return text.partition(" (")[0] if len(set(number["values"])) == 1 < len(number["values"]) else text


def _kinds(evaluate: Mapping[str, Any]) -> dict[str, str]:
    few = f"{evaluate['per_class']} labels a class"
    return {"linear": "linear probe", "few_label": few, "knn": f"kNN-{evaluate['neighbours']}"}


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
    seeds, commits = ", ".join(map(str, table["seeds"])), ", ".join(table["commits"])
    base = _base(table)
    notes = [
        f"Top-1 in %, mean and 95 % interval ({over}); with few labels, a seed's is the mean of "
        f"{table['evaluate']['splits']} choices of labels. *less {base}*: points above or below it, paired by seed; "
        "bold where the interval leaves zero out, and where it does not, these seeds show no difference. *time*: of "
        f"pretraining, beside other cells. *a step*: of training, nothing beside it, {base} = 1. *loss in a step*: the "
        "loss, forward and backward, in that time." + (_UNTRAINED if table.get("baselines") else ""),
        "",
        f"- `{command}`, commit {commits}, seeds {seeds}",
        *dict.fromkeys(f"- {_data(data)}" for data in table["data"]),  # what differs may be the views alone
        *(f"- {_machine(machine)}" for machine in table["machines"]),
    ]
    if table["unfinished"]:
        notes.append(f"- not finished: {'; '.join(table['unfinished'])}")
    return notes


def _data(data: Mapping[str, Any]) -> str:
    train, test = data["train"], data["test"]
    name = train["set"].rpartition(".")[2]
    return f"{name}: {train['samples']:,} training samples, {test['samples']:,} test samples"


def _machine(machine: Mapping[str, Any]) -> str:
    device = "" if machine["device"] == "CPU" else f", {machine['device']}"
    return (
        f"{machine['processor']}{device}, torch {machine['torch']}, {machine['threads']} thread a cell, "
        f"{machine['cells_at_a_time']} at a time"
    )


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _markers(name: str, maker: str) -> tuple[str, str]:
    return f"<!-- {maker} {name}: made by tools/{maker}.py, not by hand -->", f"<!-- end of {maker} {name} -->"


def check_page(page: Path, name: str, maker: str = MAKER) -> None:
    """Refuse a page that has no place for the table of this name.

    Raises:
        InputError: where the page or one of the two markers is missing, or is there twice.
    """
    _split(page, name, maker)


def put_into_page(page: Path, name: str, text: str, maker: str = MAKER) -> None:
    """Replace what is between the page's two markers; all else stays as it is."""
    before, after = _split(page, name, maker)
    begin, end = _markers(name, maker)
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def _split(page: Path, name: str, maker: str) -> tuple[str, str]:
    begin, end = _markers(name, maker)
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed) or begin in rest or end in before + after:
        raise InputError(f"{str(page)!r} needs two lines once, for the table to go between: {begin} and {end}")
    return before, after
