"""Table of the finished cells: means and intervals over seeds, and differences to the base row, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contrast.compare.cells import ACCURACIES, Content
from contrast.compare.grid import Grid
from contrast.evaluation import accuracy_interval, mean_interval, paired_difference

__all__ = ["accuracy_titles", "summarise", "summarise_baselines"]


def accuracy_titles(evaluate: Mapping[str, Any]) -> dict[str, str]:
    """Titles of the accuracies by their names in a cell.

    Args:
        evaluate: the settings of `contrast.compare.grid.Evaluation` as a mapping.
    """
    few = f"{evaluate['per_class']} labels a class"
    return {"linear": "linear probe", "few_label": few, "knn": f"kNN-{evaluate['neighbours']}"}


def summarise(
    grid: Grid,
    cells: Sequence[Content],
    costs: Mapping[tuple[str | None, str | None], Content],
    unfinished: Sequence[str],
    baselines: Sequence[Content] = (),
    failed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compute the table as JSON.

    Args:
        grid: the grid.
        cells: contents of its finished cells, at least one.
        costs: cost of the loss by row and column, from `contrast.commands.compare_cost`.
        unfinished: names of the other cells.
        baselines: contents of the baselines.
        failed: the last printed line of the cells that failed, by the cell's name.
    """
    found = {(cell["row"], cell["column"], cell["seed"]): cell for cell in cells}
    entries = []
    for column in grid.columns:
        for row in grid.rows:
            own, base = (_by_seed(found, grid, name, column) for name in (row, grid.base(row)))
            if own:
                cost, base_row = costs.get((row, column)), grid.base(row)
                base_cost = None if base_row is None else costs.get((base_row, column))
                entries.append(
                    {"row": row, "base": grid.base(row), "column": column, **_entry(own, base, cost, base_cost)}
                )
    return {
        "grid": grid.name,
        "baseline": grid.baseline,
        "axis": grid.axis,
        "columns": [column for column in grid.columns if column is not None],
        "seeds": list(grid.seeds),
        "evaluate": dict(cells[0]["evaluate"]),
        "entries": entries,
        "baselines": summarise_baselines(grid, baselines),
        "rows": list(grid.rows),
        "unfinished": list(unfinished),
        "failed": dict(failed or {}),
        "commits": _distinct(cells, lambda cell: cell["commit"]),
        "machines": _distinct(cells, lambda cell: cell["machine"]),
        "data": _distinct(cells, lambda cell: cell["data"]),
        "cells": list(cells),
    }


def summarise_baselines(grid: Grid, measured: Sequence[Content]) -> list[dict[str, Any]]:
    """Compute the entries of the baselines as JSON, one for each baseline and column.

    Args:
        grid: the grid.
        measured: contents of the baselines.
    """
    found = {(each["row"], each["column"], each["seed"]): each for each in measured}
    entries = []
    for column in grid.columns:
        for name in dict.fromkeys(each["row"] for each in measured):
            own = _by_seed(found, grid, name, column)
            if own:
                numbers = {each: _number(each, own, {}, []) for each in _common_numbers(list(own.values()))}
                entries.append({"row": name, "column": column, "seeds": list(own), "numbers": numbers})
    return entries


def _by_seed(
    found: Mapping[tuple[str | None, str | None, int], Content], grid: Grid, row: str | None, column: str | None
) -> dict[int, Content]:
    return {seed: found[row, column, seed] for seed in grid.seeds if (row, column, seed) in found}


def _entry(
    own: Mapping[int, Content],
    base: Mapping[int, Content],
    cost: Content | None,
    base_cost: Content | None,
) -> dict[str, Any]:
    shared = [seed for seed in own if seed in base]
    names = _common_numbers([*own.values(), *(base[seed] for seed in shared)])
    ours, theirs = (None if each is None else each["step_seconds"] for each in (cost, base_cost))
    return {
        "seeds": list(own),
        "numbers": {name: _number(name, own, base, shared) for name in names},
        "train_seconds": [cell["train_seconds"] for cell in own.values()],
        "step_ratio": None if ours is None or theirs is None else ours / theirs,
        "loss_cost": None if cost is None else dict(cost),
    }


def _common_numbers(contents: Sequence[Content]) -> list[str]:
    """Names of the numbers that all contents have, in the order of the first."""
    return [name for name in contents[0]["numbers"] if all(name in content["numbers"] for content in contents)]


def _number(
    name: str, own: Mapping[int, Content], base: Mapping[int, Content], shared: Sequence[int]
) -> dict[str, Any]:
    values = {seed: cell["numbers"][name] for seed, cell in own.items()}
    difference = None
    if len(shared) > 1:
        theirs = [base[seed]["numbers"][name] for seed in shared]
        difference = vars(paired_difference([values[seed] for seed in shared], theirs)) | {"seeds": list(shared)}
    return {"values": list(values.values()), **_interval(name, list(values.values()), own), "difference": difference}


def _interval(name: str, values: list[float], own: Mapping[int, Content]) -> dict[str, Any]:
    if name in ACCURACIES:
        samples = next(iter(own.values()))["data"]["test"]["samples"]
        interval, over = accuracy_interval(values, samples, seeds_differ=True)
        return {**vars(interval), "over": over}
    if len(values) > 1:
        return vars(mean_interval(values)) | {"over": f"95 %, Student's t over {len(values)} seeds"}
    return {"mean": values[0], "low": None, "high": None, "over": "one seed was run"}


def _distinct(cells: Sequence[Content], part: Callable[[Content], Any]) -> list[Any]:
    kept: list[Any] = []
    for cell in cells:
        if part(cell) not in kept:
            kept.append(part(cell))
    return kept
