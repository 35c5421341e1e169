"""Complete a configuration with derived values: seeds, and the image size and channels of the backbone."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from jsonargparse._common import denying_import_path_entry  # jsonargparse has no public name for it

from contrast import banks, data, losses, methods, models
from contrast.commands.class_names import SLOTS, own_classes, require_named
from contrast.commands.configuration import Config, require_plain, require_section
from contrast.errors import InputError

__all__ = ["complete", "default_of"]

_MOST_PROCESSES = 1024


def complete(config: Config) -> Config:
    """Fill in derived values of a configuration: the seed, and the image size and channels where a class takes them.

    Args:
        config: the configuration as composed from files and flags.

    Returns:
        The completed configuration.

    Raises:
        InputError: if a section is unknown or not a mapping, the seed is out of range, or the model has no class.
    """
    require_plain(config, "configuration")
    config = own_classes(config)
    config = {"seed_everything": 0} | {name: value for name, value in config.items() if value is not None}
    _require_sections(config)
    config["data"] = _with({"class_path": "ImageData"} | _spec(config.get("data")), seed=config["seed_everything"])
    require_named({"data": config["data"]})
    arguments = config["data"]["init_args"]
    views = _spec(arguments.get("views"))
    size = _arguments(views).get("size", default_of(views.get("class_path"), "size"))
    if config.get("model"):
        model = _spec(config["model"])
        if "class_path" not in model:
            raise InputError(
                "model has no class: add --model SimCLR, or for example --config configs/method/simclr.yaml"
            )
        require_named({"model": model})
        kind = config["data"]["class_path"]
        backbone = {"class_path": _usual_backbone(kind)} | _spec(_arguments(model).get("backbone"))
        takes = {"image_size": size, "channels": arguments.get("channels", default_of(kind, "channels"))}
        fits = {name: value for name, value in takes.items() if value and _takes(backbone["class_path"], name)}
        config["model"] = {
            **model,
            "init_args": {
                **_seeded(_arguments(model), config["seed_everything"]),
                "backbone": _with(backbone, **fits),
            },
        }
    return config


def _require_sections(config: Config) -> None:
    for name in config:
        require_section(name, of_flag=False)
    for name in config.keys() - {"seed_everything", "model", "data"}:
        if not isinstance(config[name], dict):
            raise InputError(f"{name}: {config[name]!r:.60} is not a section: give names and values")
    devices, nodes = (config.get("trainer", {}).get(name) for name in ("devices", "num_nodes"))
    if isinstance(devices, int) and devices > _MOST_PROCESSES:  # each would start before any error
        raise InputError(
            f"trainer.devices {devices} is above {_MOST_PROCESSES}: give the number of devices of this machine"
        )
    if isinstance(nodes, int) and nodes != 1:  # nothing starts the other nodes' processes
        raise InputError(f"trainer.num_nodes {nodes}: a run uses one machine: leave it at 1")
    seed = config["seed_everything"]
    if not isinstance(seed, int) or isinstance(seed, bool):  # checked here, because sections copy the seed
        read = f"{str(seed).lower()} (as YAML reads {'yes and on' if seed else 'no and off'})"
        read = read if isinstance(seed, bool) else f"{seed!r:.60}"
        raise InputError(f"seed_everything: {read} is not an integer: give one from 0 to {2**32 - 1}")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed_everything {seed} is not between 0 and {2**32 - 1}, the range of numpy's seeds")


def _spec(value: Any) -> Config:
    """A class as a mapping with ``class_path``, whether the value is a string, a mapping or missing."""
    if isinstance(value, str):
        return {"class_path": value}
    return dict(value) if isinstance(value, dict) else {}


def _arguments(spec: Config) -> Config:
    return spec.get("init_args") or {}


def _with(spec: Config, **values: Any) -> Config:
    return {**spec, "init_args": {**values, **_arguments(spec)}}


def _seeded(value: Any, seed: int, slot: str = "") -> Any:
    """Give the run's seed to every class in a part of a configuration that takes a seed and has none."""
    if isinstance(value, list):
        return [_seeded(item, seed, slot) for item in value]
    if isinstance(value, str) and slot in SLOTS and _takes(value, "seed"):
        return {"class_path": value, "init_args": {"seed": seed}}
    if not isinstance(value, dict):
        return value
    filled = {key: _seeded(item, seed, key) for key, item in value.items()}
    named = filled.get("class_path")
    return _with(filled, seed=seed) if isinstance(named, str) and _takes(named, "seed") else filled


def _usual_backbone(data_class: str) -> str:
    found = _find(data_class)
    return "ResNet1d" if found is not None and issubclass(found, data.SeriesData) else "ResNet"


def _takes(class_path: Any, argument: str) -> bool:
    return argument in _parameters(class_path)


def default_of(class_path: Any, argument: str) -> Any:
    """Default value of a constructor argument; the class is imported. None if the argument has no default.

    Args:
        class_path: the class's name, short or dotted.
        argument: the argument's name.
    """
    parameter = _parameters(class_path).get(argument)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _parameters(class_path: Any) -> Mapping[str, inspect.Parameter]:
    found = _find(class_path) if isinstance(class_path, str) else None
    try:
        return inspect.signature(found).parameters if found is not None else {}
    except ValueError:  # a class written in C has no signature
        return {}


def _find(class_path: str) -> type | None:
    module, _, name = class_path.rpartition(".")
    if module:
        if denying_import_path_entry(class_path):  # the parser refuses it later; do not import it before
            return None
        try:
            found = getattr(importlib.import_module(module), name, None)
        except (ImportError, TypeError, ValueError):  # an invalid module name such as ".."
            return None
        return found if isinstance(found, type) else None
    places = (models, data, losses, banks, methods)
    return next((getattr(place, name) for place in places if hasattr(place, name)), None)
