"""Class names in configurations: the classes that fit each slot, and suggestions for a wrong name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from contrast.errors import InputError, did_you_mean

__all__ = ["SLOTS", "abstract_class", "choices", "no_class", "not_of_kind", "own_classes", "require_named"]

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
"""Keys of a configuration that take a class, with the required base class."""

_OF_LOADERS = {"IndexedImages", "IndexedSeries", "TrainingImages", "TrainingSeries", "CentreImages"}

_FOLDERS = ("methods", "losses", "models", "banks", "data", "data/views", "data/series", "optim")


@cache
def choices(slot: str) -> list[str]:
    """Sorted names of this package's concrete classes that fit a slot; any other class fits by its dotted path.

    Args:
        slot: a key of `SLOTS`.
    """
    base = SLOTS[slot]
    names = {name for name, parents in _classes().items() if base in _ancestors(name) and not _abstract(parents)}
    return sorted(names - {base} - (_OF_LOADERS if base == "Dataset" else set()))


def own_classes(config: Any, slot: str = "") -> Any:
    """Replace each short class name that `choices` lists by the dotted path of this package's class.

    Other libraries have classes with the same names, for example torchvision's ImageFolder; a short name means ours.

    Args:
        config: a configuration or a part of one.
        slot: the key that holds this part.
    """
    if isinstance(config, list):
        return [own_classes(item, slot) for item in config]
    if isinstance(config, str):
        return _dotted(config, slot)
    if not isinstance(config, dict):
        return config
    found = {key: own_classes(value, key.removesuffix("+")) for key, value in config.items()}
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
    """Public package of each class, by class name: classes of views and series belong to `contrast.data`."""
    package = files("contrast")
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        place = package.joinpath(folder)
        sources = place.iterdir() if place.is_dir() else [package.joinpath(f"{folder}.py")]
        for source in sources:
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


_PLACES = {
    "model": ("a method", "--model {}"),
    "loss": ("a loss", "--model.loss {}"),
    "objective": ("an objective", "--model.loss.objective {}"),
    "temperature": ("a temperature", "--model.loss.temperature {}"),
    "transforms": ("a pair transform", "--model.loss.transforms '[{}]'"),
    "weighting": ("a pair weighting", "--model.loss.weighting {}"),
    "backbone": ("a backbone", "--model.backbone {}"),
    "head": ("a projection head", "--model.head {}"),
    "bank": ("a memory bank", "--model.bank {}"),
    "mining": ("a mining rule", "--model.bank.mining {}"),
    "approximate": ("an approximate search", "--model.bank.approximate {}"),
    "schedule": ("a schedule", "--model.schedule {}"),
    "data": ("a kind of data", "--data {}"),
    "views": ("views", "--data.views {}"),
    "train": ("a data set", "--data.train {}"),
}
"""Description of the class that each slot of `SLOTS` takes, and the flag that sets it."""

_EXAMPLES = {
    **{"optimizer": "torch.optim.SGD", "schedule": "WarmupCosine", "head": "SimCLRHead", "bank": "KeyQueue"},
    **{"views": "SimCLRViews", "train": "ImageFolder", "test": "ImageFolder"},
}
"""Example classes for messages about slots that have no class until the user names one."""

_RESNETS = re.compile(r"(wide_)?resne(x)?t\d+\w*", re.IGNORECASE)


def no_class(path: str, name: str, known: Iterable[str] = ()) -> str:
    """Message for an unknown short name: it belongs to another slot, is a network's name, or is misspelt.

    Args:
        path: the setting where the name was given, for example ``model.loss``.
        name: the name as given.
        known: names that fit, if `choices` does not list them.

    Example:
        >>> no_class("model.loss", "DCL")
        "'DCL' is an objective, which does not fit here: give --model.loss.objective DCL"
    """
    slot = path.rpartition(".")[2]
    if other := _elsewhere(slot, name):
        return other
    if slot == "backbone" and _RESNETS.fullmatch(name):
        return f"{name!r} is the name of a network: give --model.backbone ResNet --model.backbone.name {name.lower()}"
    names = list(known) or (choices(slot) if slot in SLOTS else [])
    if name.lower() in ("none", "nil"):
        return f"no class {name!r}, and a class is required here; known: {', '.join(names)}"
    return f"no class {name!r}" + (did_you_mean(name, names) if names else "; give a class's dotted path")


def not_of_kind(path: str, name: str, base: str) -> str:
    """Message for an existing class that is not a subclass of the required base class.

    Args:
        path: the setting where the class was given.
        name: the class's name as given.
        base: name of the required base class.
    """
    slot = path.rpartition(".")[2]
    if name.startswith("contrast.") and (other := _elsewhere(slot, name.rpartition(".")[2])):
        return other
    known = f", say {', '.join(choices(slot))}" if slot in SLOTS else ""
    return f"{name} is not a subclass of {base}: give one{known}"


def abstract_class(path: str, name: str) -> str:
    """Message for an abstract class.

    Args:
        path: the setting where the class was given.
        name: the class's name as given.
    """
    slot = path.rpartition(".")[2]
    known = f"; known: {', '.join(choices(slot))}" if slot in SLOTS else ""
    return f"{name} is abstract: give a subclass that defines its abstract methods{known}"


def require_named(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
    """Refuse arguments of a class if no class is named, such as ``model.optimizer.lr`` over a method's own default.

    Args:
        config: the configuration or a part of one.
        path: keys that lead to this part.

    Raises:
        InputError: one line with the flag that names a class.
    """
    arguments = config.get("init_args", config) if path else config
    if len(path) > 1 and "class_path" not in config and path[-1] in {*SLOTS, "optimizer"} - {"backbone"}:
        if arguments:
            raise InputError(_unnamed(path, next(iter(arguments))))
        return
    for key, value in arguments.items() if isinstance(arguments, Mapping) else ():
        if isinstance(value, Mapping):
            require_named(value, (*path, key))


def _unnamed(path: tuple[str, ...], argument: str) -> str:
    place, slot = ".".join(path), path[-1]
    example = _EXAMPLES.get(slot) or choices(slot)[0]
    return (
        f"{place}.{argument}: no class is set that takes this argument: set it first, as in --{place} {example} "
        f"--{place}.{argument} VALUE"
    )


def _elsewhere(slot: str, name: str) -> str:
    """Message with the right flag if a class belongs to another slot; otherwise empty."""
    for other, (kind, flag) in _PLACES.items():
        if SLOTS.get(other) != SLOTS.get(slot) and name in choices(other):
            return f"{name!r} is {kind}, which does not fit here: give {flag.format(name)}"
    return ""
