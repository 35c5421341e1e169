"""Which classes a configuration may name by their short names, read from the sources without importing them."""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

__all__ = ["SLOTS", "choices", "own_classes"]

SLOTS = {
    "model": "ContrastiveMethod",
    "loss": "Loss",
    "objective": "Objective",
    "temperature": "Temperature",
    "transforms": "PairTransform",
    "weighting": "PairWeighting",
    "backbone": "Backbone",
    "head": "Head",
    "bank": "MemoryBank",
    "mining": "Mining",
    "approximate": "Approximate",
    "schedule": "Schedule",
    "data": "TrainingData",
    "views": "RandomViews",
    "train": "Dataset",
    "test": "Dataset",
}
"""Keys of a configuration that take a class, and what it must be a subclass of."""

_OF_LOADERS = {"IndexedImages", "IndexedSeries", "TrainingImages", "TrainingSeries", "CentreImages"}

_FOLDERS = ("methods", "losses", "models", "banks", "data", "data/views", "data/series", "optim")


@cache
def choices(slot: str) -> list[str]:
    """Names of the package's classes that fit a slot, sorted; a class from elsewhere fits by its dotted path."""
    base = SLOTS[slot]
    names = {name for name, parents in _classes().items() if base in _ancestors(name) and not _abstract(parents)}
    return sorted(names - {base} - (_OF_LOADERS if base == "Dataset" else set()))


def own_classes(config: Any, slot: str = "") -> Any:
    """A configuration in which each short name that `choices` lists is this package's class, by its dotted path.

    Libraries have classes of the same names (torchvision's ImageFolder): ours are meant.
    """
    if isinstance(config, list):
        return [own_classes(item, slot) for item in config]
    if isinstance(config, str):
        return _dotted(config, slot)
    if not isinstance(config, dict):
        return config
    found = {key: own_classes(value, key) for key, value in config.items()}
    if isinstance(found.get("class_path"), str):
        found["class_path"] = _dotted(found["class_path"], slot)
    return found


def _dotted(name: str, slot: str) -> str:
    return f"contrast.{_packages()[name]}.{name}" if slot in SLOTS and name in choices(slot) else name


def _abstract(parents: tuple[str, ...]) -> bool:
    return "ABC" in parents


@cache
def _classes() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for source in _sources():
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name] = tuple(_name(base) for base in node.bases)
    return found


@cache
def _packages() -> dict[str, str]:
    """Each class's package, which has its name: views and series are of `contrast.data`."""
    package = files("contrast")
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        place = package.joinpath(folder)
        for source in place.iterdir() if place.is_dir() else ():
            if source.name.endswith(".py"):
                names = [
                    node.name for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ClassDef)
                ]
                found |= dict.fromkeys(names, folder.partition("/")[0])
    return found


def _sources() -> list[Traversable]:
    package = files("contrast")
    places = [package, *(package.joinpath(folder) for folder in _FOLDERS)]
    return [file for place in places if place.is_dir() for file in place.iterdir() if file.name.endswith(".py")]


def _name(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        base = base.value
    return base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""


def _ancestors(name: str) -> set[str]:
    parents = _classes().get(name, ())
    return set(parents).union(*(_ancestors(parent) for parent in parents))
