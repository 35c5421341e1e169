"""The typed side of a configuration: which sections there are, what fits them, and the objects built from them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonargparse
import lightning
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from contrast import banks, data, losses, methods, models, optim  # noqa: F401  # short names are of imported classes
from contrast.callbacks import BankRecorder, Checkpoints, Metrics, OnlineKNN, PairRecorder, Recorder
from contrast.commands.choices import SLOTS, choices
from contrast.commands.configuration import Config
from contrast.commands.messages import one_line
from contrast.commands.training_facts import TrainingFacts
from contrast.data import TrainingData
from contrast.data.failures import construction_error
from contrast.errors import InputError
from contrast.methods import ContrastiveMethod

__all__ = [
    "CALLBACKS",
    "build",
    "complete",
    "evaluation_parser",
    "import_from_here",
    "refused_in_one_line",
    "resolve",
    "run_parser",
]

CALLBACKS: dict[str, type[lightning.Callback]] = {
    "metrics": Metrics,
    "scores": Recorder,
    "pairs": PairRecorder,
    "online_knn": OnlineKNN,
    "bank": BankRecorder,
    "checkpoints": Checkpoints,
}
"""Sections of a configuration that set a callback which every run has."""

# A configuration may name any class but those of modules such as os and subprocess: jsonargparse has the list, and
# enforces it once settings are made.
jsonargparse.set_parsing_settings(import_path_denylist=[])

_GIVEN = {"folder", "config"}  # arguments of callbacks that the command fills


def run_parser() -> jsonargparse.ArgumentParser:
    """The parser of a whole run: seed, model, data, trainer and the sections of the callbacks."""
    parser = jsonargparse.ArgumentParser(prog="contrast pretrain", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--seed_everything", type=int, default=0, help="the one seed of the run")
    # Data first: they are built first, and pieces of a loss may ask for what they say.
    parser.add_subclass_arguments(TrainingData, "data", required=True)
    parser.add_subclass_arguments(ContrastiveMethod, "model", required=True)
    parser.add_class_arguments(lightning.Trainer, "trainer", instantiate=False)
    for name, callback in CALLBACKS.items():
        parser.add_class_arguments(callback, name, instantiate=False, skip=_GIVEN)
    return parser


def evaluation_parser(with_model: bool) -> jsonargparse.ArgumentParser:
    """The parser of what an evaluation needs: seed and data, and the model unless weights come from elsewhere."""
    parser = jsonargparse.ArgumentParser(prog="contrast", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_subclass_arguments(TrainingData, "data", required=True)
    if with_model:
        parser.add_subclass_arguments(ContrastiveMethod, "model", required=True)
    return parser


def complete(config: Config) -> Config:
    """Fill what follows from what is said: the seed and the size and channels of images, where a class takes them."""
    config = dict(config)
    config.setdefault("seed_everything", 0)
    config["data"] = _with({"class_path": "ImageData"} | _spec(config.get("data")), seed=config["seed_everything"])
    said = config["data"]["init_args"]
    views = _spec(said.get("views"))
    size = views.get("init_args", {}).get("size", _default(views.get("class_path"), "size"))
    if config.get("model"):
        model = _spec(config["model"])
        if "class_path" not in model:
            raise InputError("model has no class: add --config configs/method/simclr.yaml, say, or --model SimCLR")
        kind = config["data"]["class_path"]
        backbone = {"class_path": _usual_backbone(kind)} | _spec(model.get("init_args", {}).get("backbone"))
        takes = {"image_size": size, "channels": said.get("channels", _default(kind, "channels"))}
        fits = {name: value for name, value in takes.items() if value and _takes(backbone["class_path"], name)}
        config["model"] = {
            **model,
            "init_args": {
                **_seeded(model.get("init_args", {}), config["seed_everything"]),
                "backbone": _with(backbone, **fits),
            },
        }
    return config


def resolve(parser: jsonargparse.ArgumentParser, config: Config) -> tuple[Any, Config]:
    """Check a configuration against the types; also give it back with every default written out.

    Raises:
        InputError: one line, for the first thing that does not fit.
    """
    typed = refused_in_one_line(lambda: parser.parse_object(config))
    plain = yaml.safe_load(parser.dump(typed, skip_unset=False))
    return typed, plain


def build(parser: jsonargparse.ArgumentParser, typed: Any) -> Any:
    """The objects of a resolved configuration.

    A piece of a loss that takes `samples` or `labels` and was given none gets the training set's: the one way in which
    a label reaches a loss.

    Raises:
        InputError: one line, for what a constructor refused.
    """
    facts = TrainingFacts()
    return refused_in_one_line(lambda: parser.instantiate(typed, instantiators=facts.instantiators()))


def refused_in_one_line(action: Callable[[], Any]) -> Any:
    """What `action` returns; what it raises of a configuration, as an `InputError` of one line."""
    known = {slot: choices(slot) for slot in SLOTS}
    try:
        return action()
    except (jsonargparse.ArgumentError, MisconfigurationException, TypeError, ValueError, ImportError) as error:
        if not isinstance(error, jsonargparse.ArgumentError) and _is_ours(error):
            raise
        raise InputError(one_line(str(error), known)) from error
    except (RuntimeError, OSError) as error:  # what data set classes raise of their files
        raise construction_error("data", {}, error) from error


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, InputError) and "\n" not in str(error)


def _spec(value: Any) -> Config:
    """A class as a mapping, whether it was named by a string, a mapping or not at all."""
    if isinstance(value, str):
        return {"class_path": value}
    return dict(value) if isinstance(value, dict) else {}


def _with(spec: Config, **values: Any) -> Config:
    return {**spec, "init_args": {**values, **(spec.get("init_args") or {})}}


def _seeded(value: Any, seed: int, slot: str = "") -> Any:
    """A part of a configuration in which every class that takes a seed, and has none, gets the run's."""
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


def _takes(class_path: str, argument: str) -> bool:
    found = _find(class_path)
    return found is not None and argument in inspect.signature(found).parameters


def _default(class_path: str | None, argument: str) -> Any:
    found = _find(class_path) if class_path else None
    parameter = inspect.signature(found).parameters.get(argument) if found else None
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _find(class_path: str) -> type | None:
    module, _, name = class_path.rpartition(".")
    if module:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None
        return found if isinstance(found, type) else None
    places = (models, data, losses, banks, methods)
    return next((getattr(place, name) for place in places if hasattr(place, name)), None)


def import_from_here() -> None:
    """Let a configuration name classes in files of the folder where the command was started."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
