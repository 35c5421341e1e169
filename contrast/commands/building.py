"""Build model, data and trainer from a typed configuration (jsonargparse)."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import shlex
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, get_args, get_type_hints

import jsonargparse
import lightning
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.utils.data import Dataset

from contrast import (
    banks,  # noqa: F401  # jsonargparse only resolves short names of imported classes
    data,  # noqa: F401  # jsonargparse only resolves short names of imported classes
    losses,  # noqa: F401  # jsonargparse only resolves short names of imported classes
    methods,  # noqa: F401  # jsonargparse only resolves short names of imported classes
    models,  # noqa: F401  # jsonargparse only resolves short names of imported classes
    optim,  # noqa: F401  # jsonargparse only resolves short names of imported classes
)
from contrast.callbacks import BankRecorder, Checkpoints, Metrics, OnlineKNN, PairRecorder, Recorder
from contrast.commands.class_names import SLOTS, choices
from contrast.commands.configuration import Config
from contrast.commands.messages import every_mistake, one_line
from contrast.data import TrainingData
from contrast.data.cache import caches_only_read
from contrast.data.folder import TORCHVISION_FOLDERS, torchvision_folder
from contrast.data.sources import construction_error
from contrast.errors import MEMORY, InputError, out_of_memory
from contrast.losses import Piece
from contrast.methods import ContrastiveMethod

__all__ = [
    "CALLBACKS",
    "TrainingFacts",
    "build",
    "check",
    "evaluation_parser",
    "import_from_here",
    "print_class_help",
    "refused_in_one_line",
    "resolve",
    "run_parser",
]

# Exceptions that torchvision's data sets raise for files that are missing, truncated or in another format.
_OF_FILES = (RuntimeError, OSError, ValueError, LookupError, EOFError, AssertionError, UnpicklingError, struct.error)

Instantiator = tuple[Callable[..., Any], type, bool]


class TrainingFacts:
    """Instantiators that pass the number of training samples and the labels to components of the loss.

    The data set is built first. A component whose constructor has an argument `samples` or `labels`, and was given no
    value for it, receives the value of the training set.

    Args:
        received: whether the configuration was read from a file, so that no data set is downloaded.
    """

    def __init__(self, received: bool = False) -> None:
        self._data: TrainingData | None = None
        self._received = received

    def instantiators(self) -> list[Instantiator]:
        """Functions for jsonargparse that build the data, the components of the loss and the data sets."""
        return [
            (self._build_data, TrainingData, True),
            (self._build_piece, Piece, True),
            (self._build_set, Dataset, True),
        ]

    def _build_data(self, class_type: Callable[..., TrainingData], *args: Any, **kwargs: Any) -> TrainingData:
        self._data = class_type(*args, **kwargs)
        return self._data

    def _build_piece(self, class_type: type[Piece], *args: Any, **kwargs: Any) -> Piece:
        takes = inspect.signature(class_type).parameters
        if self._data is not None:
            if "samples" in takes and kwargs.get("samples") is None:
                kwargs["samples"] = self._data.train_samples
            if "labels" in takes and kwargs.get("labels") is None:
                kwargs["labels"] = self._labels(class_type.__name__)
        return class_type(*args, **kwargs)

    def _labels(self, name: str) -> Any:
        assert self._data is not None
        labels = self._data.train_labels
        if labels is None:
            raise InputError(f"{name} learns from labels and the training set has none: give a labelled data.train")
        return labels

    def _build_set(self, class_type: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Build a data set; an exception about its files becomes a one-line error that names the class."""
        refused = self._received and bool(kwargs.get("download"))
        if refused:
            kwargs["download"] = False
        try:
            if class_type in TORCHVISION_FOLDERS and "root" in kwargs:
                return torchvision_folder(class_type, kwargs)
            return class_type(*args, **kwargs)
        except InputError:
            raise
        except _OF_FILES as error:
            message = str(construction_error(f"{class_type.__module__}.{class_type.__qualname__}", kwargs, error))
            fix = "" if "correct root" in message else ": correct the arguments, or get the files again"
            if refused:
                fix = "; `download: true` from a run folder or checkpoint is ignored: add --trust to download"
            raise InputError(f"{message}{fix}") from error


CALLBACKS: dict[str, type[lightning.Callback]] = {
    "metrics": Metrics,
    "scores": Recorder,
    "pairs": PairRecorder,
    "online_knn": OnlineKNN,
    "bank": BankRecorder,
    "checkpoints": Checkpoints,
}
"""Sections of a configuration that configure a callback, and the callback's class; every run has these callbacks."""

# jsonargparse has a deny list of modules such as os and subprocess, and enforces it once a setting is made. We add
# functions that unpickle, compile or download: torchvision's data sets take functions as arguments, so a configuration
# could pass these.
_MORE_DENIED = (
    *("torch.load", "torch.serialization", "torch.hub", "torch.jit", "torch.package", "torch.multiprocessing"),
    *("torch.utils.cpp_extension", "torch.utils.model_zoo", "numpy.load", "numpy.fromfile", "joblib", "cloudpickle"),
)
jsonargparse.set_parsing_settings(import_path_denylist=list(_MORE_DENIED))

_GIVEN = {"folder", "config", "max_seconds"}  # arguments of callbacks that the command itself passes


class _Parser(jsonargparse.ArgumentParser):
    """Parser that accepts any type for a constructor argument without annotation; the argument stays required."""

    def _add_signature_parameter(self, container: Any, nested_key: Any, param: Any, *args: Any, **kwargs: Any) -> None:
        required = inspect.Parameter.empty in (param.default, kwargs.get("default", param.default))
        if param.annotation is inspect.Parameter.empty and required:
            param = dataclasses.replace(param, annotation=Any)
        super()._add_signature_parameter(container, nested_key, param, *args, **kwargs)


def run_parser() -> jsonargparse.ArgumentParser:
    """Parser of a whole run's configuration: seed, model, data, trainer and the sections of the callbacks."""
    parser = _Parser(prog="contrast pretrain", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--seed_everything", type=int, default=0, help="the one seed of the run")
    # Data come first, so that they are built first: components of a loss may need the number of samples or the labels.
    parser.add_subclass_arguments(TrainingData, "data", required=True)
    parser.add_subclass_arguments(ContrastiveMethod, "model", required=True)
    parser.add_class_arguments(lightning.Trainer, "trainer", instantiate=False)
    for name, callback in CALLBACKS.items():
        parser.add_class_arguments(callback, name, instantiate=False, skip=_GIVEN)
    return parser


def evaluation_parser(with_model: bool) -> jsonargparse.ArgumentParser:
    """Parser of an evaluation's configuration: seed, data, and optionally the model.

    Args:
        with_model: whether the configuration has a model; False for weights from another source.
    """
    parser = _Parser(prog="contrast", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_subclass_arguments(TrainingData, "data", required=True)
    if with_model:
        parser.add_subclass_arguments(ContrastiveMethod, "model", required=True)
    return parser


def check(parser: jsonargparse.ArgumentParser, config: Config) -> Any:
    """Check a configuration against the types of all arguments.

    Args:
        parser: the parser of this kind of configuration.
        config: the configuration as plain data.

    Returns:
        The typed configuration.

    Raises:
        InputError: one line that names up to three mistakes.
    """
    typed = every_mistake(config, lambda given: refused_in_one_line(lambda: parser.parse_object(given)))
    _refuse_nothing(typed)
    return typed


def resolve(parser: jsonargparse.ArgumentParser, config: Config) -> tuple[Any, Config]:
    """Check a configuration against the types, and write out every default.

    Args:
        parser: the parser of this kind of configuration.
        config: the configuration as plain data.

    Returns:
        The typed configuration, and the configuration as plain data with every default.

    Raises:
        InputError: as in `check`.
    """
    typed = check(parser, config)
    return typed, yaml.safe_load(parser.dump(typed, skip_unset=False))


def _refuse_nothing(typed: Any) -> None:
    """Refuse null for an argument of a callback that does not accept None: the parser would accept it."""
    for section, callback in CALLBACKS.items():
        kinds = get_type_hints(callback.__init__)
        given = vars(typed[section]) if section in typed else {}
        for name in given:
            if given[name] is None and type(None) not in get_args(kinds[name]):
                raise InputError(f"{section}.{name}: null is not allowed here: leave the setting out for its default")


def build(parser: jsonargparse.ArgumentParser, typed: Any, received: bool = False) -> Any:
    """Build the objects of a resolved configuration.

    A component of a loss that has an argument `samples` or `labels`, and was given no value for it, receives the
    training set's. This is the only way in which labels reach a loss.

    Args:
        parser: the parser of this kind of configuration.
        typed: the typed configuration from `check`.
        received: whether the configuration was read from a run folder or a checkpoint without `--trust`. If so, nothing
            is downloaded, and no file is written outside the run folder.

    Raises:
        InputError: one line, if a constructor refuses its arguments.
    """
    facts = TrainingFacts(received)
    with caches_only_read() if received else contextlib.nullcontext():
        return refused_in_one_line(lambda: parser.instantiate(typed, instantiators=facts.instantiators()))


def print_class_help(parser: jsonargparse.ArgumentParser, words: Sequence[str]) -> None:
    """Print the arguments of the class that a flag like ``--model.help MoCo`` asks for, and leave the program.

    Args:
        parser: the parser of a run's configuration.
        words: the command line's words; only the request for help.

    Raises:
        InputError: one line, for an unknown class or words besides the request.
        SystemExit: with code 0, after the help is printed.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            refused_in_one_line(lambda: parser.parse_args(list(words)))
    except SystemExit as end:
        if not end.code:
            raise
        # The parser that jsonargparse makes for the class prints its usage and its own error.
        reason = errors.getvalue().rpartition("error:")[2].strip()
        raise InputError(
            f"{shlex.join(words)}: {reason}: ask for one class and give nothing else, such as --model.help MoCo"
        ) from end


def refused_in_one_line(action: Callable[[], Any]) -> Any:
    """Return the result of `action`; convert its exceptions about a configuration into a one-line `InputError`."""
    try:
        return action()
    except (jsonargparse.ArgumentError, MisconfigurationException, TypeError, ValueError, ImportError) as error:
        if not isinstance(error, jsonargparse.ArgumentError) and _is_ours(error):
            raise
        if out_of_memory(error):
            raise InputError(MEMORY) from error
        raise InputError(one_line(str(error), {slot: choices(slot) for slot in SLOTS} | _optimizers())) from error
    except IndexError as error:  # jsonargparse raises it if a constructor's exception has no text, such as MemoryError
        raise InputError("a class cannot be built, most likely because memory ran out: give smaller numbers") from error
    except (MemoryError, RuntimeError, OSError) as error:  # data set classes raise these about their files
        if out_of_memory(error):
            raise InputError(MEMORY) from error
        raise construction_error("data", {}, error) from error


def _optimizers() -> dict[str, list[str]]:
    found = [name for name, each in vars(torch.optim).items() if isinstance(each, type) and name != "Optimizer"]
    return {"optimizer": [*found, "LARS"]}


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, InputError) and "\n" not in str(error)


def import_from_here() -> None:
    """Let a configuration name classes in files of the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
