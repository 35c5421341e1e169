"""Security check of received configurations: an allow list of classes, in force unless `--trust` is given.

A configuration that the user passes on the command line may name any class. A configuration that is read from a run
folder or a checkpoint may come from a stranger, and each class in it would be imported and called with its arguments.
So each class must be on the allow list in this module, and each argument must be plain data or another allowed class.
The check itself imports nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import lightning
import torch
import torchvision
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy

from contrast import banks, data, losses, methods, models, optim
from contrast.commands.configuration import Config, require_plain, short
from contrast.data import series, views
from contrast.errors import InputError
from contrast.run_folder import RunFolder

__all__ = [
    "allowed_class",
    "names_own_classes",
    "note_online_logger",
    "receive",
    "require_no_links",
]

_TORCHVISION = (
    *("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST", "SVHN", "STL10", "ImageFolder"),
    *("Imagenette", "Caltech101", "Caltech256", "CelebA", "Country211", "DTD", "EuroSAT", "FGVCAircraft", "FakeData"),
    *("Flowers102", "Food101", "GTSRB", "INaturalist", "LFWPeople", "OxfordIIITPet", "PCAM", "Places365"),
    *("RenderedSST2", "SUN397", "StanfordCars", "SEMEION", "USPS", "Omniglot", "FER2013"),
)
"""Allowed data sets of torchvision.

Not allowed: LSUN unpickles a file beside its data, ImageNet unpacks archives into its folder, and DatasetFolder takes a
function as an argument. CIFAR also unpickles, but only after it has compared the MD5 of the files.
"""

_WORDS = {
    "accelerator": ("auto", "cpu", "gpu", "cuda", "mps"),
    "strategy": (
        *("auto", "ddp", "ddp_spawn", "ddp_fork", "fsdp"),
        *("ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"),
    ),
    "profiler": ("simple", "advanced", "pytorch"),
}
"""Words that a trainer argument accepts besides a class, by the argument's name."""

_NEVER = {"trainer.model_registry"}  # it uploads checkpoints
_WRITTEN = ("save_dir", "dir", "name", "version", "sub_dir", "log_dir")  # loggers' arguments that set the output path
_BY_KWARGS: dict[type, dict[str, type]] = {  # allowed keyword arguments that are not in a constructor's signature
    WandbLogger: {"entity": str, "group": str, "notes": str, "job_type": str, "tags": list, "mode": str},
    TensorBoardLogger: {"flush_secs": int, "max_queue": int, "filename_suffix": str, "purge_step": int, "comment": str},
    DDPStrategy: {"find_unused_parameters": bool, "static_graph": bool, "gradient_as_bucket_view": bool},
}
_PLAIN = (bool, int, float, str, type(None), PurePath, Path, timedelta)
_KINDS: tuple[type, ...] = (
    *(torch.nn.Module, torch.utils.data.Dataset, torch.optim.Optimizer, data.TrainingData, data.RandomViews),
    *(views.Step, views.RandomResizedCrop, series.SeriesStep, optim.Schedule, banks.Mining, banks.Approximate),
)
_OF_LOADERS = ("IndexedImages", "IndexedSeries", "IndexedSamples")  # internal wrappers of data sets in `TrainingData`


def receive(config: Config, where: str, given: Config | None = None) -> Config:
    """Check a received configuration against the allow list, and write classes by their full names.

    If the command line names the same class at the same place, any class is allowed there. The arguments that the file
    adds to that class must then be numbers, or equal to the class's defaults.

    Args:
        config: the configuration as read, merged with the changes of the command line.
        where: the file, for messages.
        given: the part that comes from the command line.

    Returns:
        The configuration, in which each class on the list has its full import name.

    Raises:
        InputError: for the first class or value that is not allowed, with its path.
    """
    require_plain(config, where)
    checker = _Checker(where)
    return {name: checker.section(name, value, (given or {}).get(name)) for name, value in config.items()}


def names_own_classes(given: Any) -> bool:
    """Whether the user names a class that is not on the allow list, which may be in a file of the current folder.

    Args:
        given: the part of the configuration that comes from the command line.
    """
    if isinstance(given, Mapping):
        return any(names_own_classes(each) for each in given.values())
    if isinstance(given, list | tuple):
        return any(names_own_classes(each) for each in given)
    dotted = isinstance(given, str) and "." in given and all(part.isidentifier() for part in given.split("."))
    return dotted and allowed_class(given) is None


def allowed_class(name: str) -> type | None:
    """Look up a class name on the allow list.

    Args:
        name: a short name of a class of this package (``SimCLR``), or a dotted name (``torchvision.datasets.CIFAR10``).

    Returns:
        The class; None if the name is not on the list.
    """
    top, _, _ = name.partition(".")
    if top == name or top == "contrast":
        return _own_classes().get(short(name))
    return _outer_classes().get(name)


def note_online_logger(config: Config, where: str) -> None:
    """Print a warning, before the run starts, if a received configuration has a logger that sends records to a server.

    Args:
        config: the received configuration.
        where: the file, for messages.
    """
    loggers = (config.get("trainer") or {}).get("logger")
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if not isinstance(logger, dict):
            continue
        named = logger.get("class_path", "")
        arguments = {**(logger.get("init_args") or {}), **(logger.get("dict_kwargs") or {})}
        quiet = arguments.get("offline") or arguments.get("mode") in ("offline", "disabled")
        if short(named) == "WandbLogger" and not quiet:
            project = arguments.get("project") or "lightning_logs"
            print(
                f"note    {where} turns on Weights & Biases, online, project {project!r}: records are sent there; "
                "--trainer.logger null keeps them on this machine",
                file=sys.stderr,
            )


def require_no_links(folder: RunFolder) -> None:
    """Refuse a run folder with a symbolic link to a folder outside it, because commands would write there.

    Args:
        folder: the run folder.

    Raises:
        InputError: one line that names the link.
    """
    inside = folder.path.resolve()
    for path in sorted(folder.path.iterdir()) if folder.path.is_dir() else ():
        if path.is_symlink() and path.is_dir() and not path.resolve().is_relative_to(inside):
            raise InputError(
                f"{str(path)!r} is a link to {str(path.resolve())!r}, outside of the run folder: remove the link, or "
                "add --trust if you made it"
            )


class _Checker:
    """Recursive check of one received configuration."""

    def __init__(self, where: str) -> None:
        self._where = where

    def section(self, name: str, value: Any, given: Any) -> Any:
        from contrast.commands.building import CALLBACKS

        if name == "seed_everything" or value is None:
            return self._plain(name, value)
        if name in ("model", "data"):
            return self._value(name, value, given, imports=True)
        settings = lightning.Trainer if name == "trainer" else CALLBACKS.get(name)
        if settings is None or not isinstance(value, dict):
            raise InputError(f"{self._where} has an unknown section {name!r:.60}: remove it")
        return self._arguments(name, settings, value, given)

    def _value(self, path: str, value: Any, given: Any, imports: bool, words: tuple[str, ...] = ()) -> Any:
        if isinstance(value, list | tuple):
            mine = list(given) if isinstance(given, list | tuple) else []
            # A flag such as `--scores.observers+=NAME` appends, so the user's elements are the last ones.
            theirs = [*[None] * (len(value) - len(mine)), *mine] if len(mine) <= len(value) else [None] * len(value)
            return [self._value(path, each, own, imports, words) for each, own in zip(value, theirs, strict=True)]
        if isinstance(value, dict) and "class_path" in value:
            return self._class(path, value, given)
        if isinstance(value, dict):
            if imports and "init_args" in value:
                raise InputError(f"{self._where}: {path} gives arguments without a class: give the class")
            return {name: self._plain(f"{path}.{name}", each) for name, each in value.items()}
        if isinstance(value, str) and imports and value not in words:
            return self._class(path, {"class_path": value}, given)
        return value

    def _class(self, path: str, spec: Config, given: Any) -> Config:
        named, arguments = spec["class_path"], spec.get("init_args") or {}
        theirs = {"class_path": given} if isinstance(given, str) else given
        listed = allowed_class(named)
        if listed is None:
            if not (isinstance(theirs, Mapping) and theirs.get("class_path") == named):
                raise self._refused(path, f"names {named!r}")
            return {"class_path": named, "init_args": self._of_users_class(path, named, arguments, theirs)}
        checked: Config = {"class_path": _full_name(listed)}
        if arguments:
            checked["init_args"] = self._arguments(path, listed, arguments, theirs)
        if more := spec.get("dict_kwargs"):
            self._by_kwargs(path, listed, more)
            checked["dict_kwargs"] = more
        if issubclass(listed, lightning.pytorch.loggers.Logger):
            self._inside_the_run(path, {**arguments, **(more or {})})
        return checked

    def _arguments(self, path: str, of: type, arguments: Config, given: Any) -> Config:
        checked = {}
        for name, value in arguments.items():
            plain = name.removesuffix("+")  # a flag that appends to a list; no file of a run has such a key
            plain = name if _child(given, plain) is None else plain
            place, annotation = f"{path}.{plain}", _annotation(of, plain)
            if place in _NEVER and value is not None:
                raise self._refused(place, f"gives {value!r:.60}")
            if annotation is None:
                self._by_kwargs(path, of, {name: value})
                checked[name] = value
            elif isinstance(value, str) and value == _default_function(of, name):
                checked[name] = value
            else:
                words = _WORDS.get(name, ()) if path == "trainer" else ()
                checked[name] = self._value(place, value, _child(given, name), not _is_plain(annotation), words)
        return checked

    def _of_users_class(self, path: str, named: str, arguments: Config, given: Mapping[str, Any]) -> Config:
        """Check arguments of a class named on the command line: its own are allowed, the file's must be harmless."""
        own = given.get("init_args") or {}
        checked = {}
        for name, value in arguments.items():
            place = f"{path}.{name}"
            if (name in own and own[name] == value) or value == _default(named, name):
                checked[name] = value
            elif isinstance(value, str):
                raise self._refused(place, f"gives {value!r:.60} to {named}")
            else:
                checked[name] = self._value(place, value, own.get(name), imports=True)
        return checked

    def _plain(self, path: str, value: Any) -> Any:
        if isinstance(value, dict):
            if "class_path" in value:
                raise self._refused(path, f"names {value['class_path']!r:.60}")
            for name, each in value.items():
                self._plain(f"{path}.{name}", each)
        elif isinstance(value, list | tuple):
            for each in value:
                self._plain(path, each)
        return value

    def _by_kwargs(self, path: str, of: type, more: Any) -> None:
        kinds = _BY_KWARGS.get(of, {})
        for name, value in more.items() if isinstance(more, dict) else ():
            if not kinds:
                raise InputError(f"{self._where}: {path}: no argument {name!r:.60} of {of.__name__}: remove it")
            fits = name in kinds and isinstance(value, kinds[name])
            if value is not None and not (fits and all(isinstance(each, str) for each in _items(value))):
                raise self._refused(f"{path}.{name}", f"gives {value!r:.60}")

    def _inside_the_run(self, path: str, arguments: Config) -> None:
        if arguments.get("log_model") or arguments.get("experiment"):
            raise self._not_obeyed(path, "uploads the checkpoints")
        root = arguments.get("save_dir")
        if not isinstance(root, str) or not (root == "{run}" or root.startswith("{run}/")):
            raise self._not_obeyed(f"{path}.save_dir", f"would write to {root!r:.200}, outside of the run folder")
        for name in _WRITTEN:
            text = arguments.get(name)
            if isinstance(text, str) and (".." in PurePath(text).parts or PurePath(text).is_absolute()):
                raise self._not_obeyed(f"{path}.{name}", f"would write to {text!r:.200}, outside of the run folder")

    def _not_obeyed(self, path: str, what: str) -> InputError:
        return InputError(
            f"{self._where}: {path} {what}: add --trust if you trust its author, or give this part again by a flag or "
            "a file"
        )

    def _refused(self, path: str, what: str) -> InputError:
        return InputError(
            f"{self._where}: {path} {what}, which is not on the list of what a received configuration may hold, so it "
            "was not imported: add --trust if you trust its author, or give this part again by a flag or a file"
        )


def _child(given: Any, name: str) -> Any:
    if not isinstance(given, Mapping):
        return None
    inner = given.get("init_args")
    for holder in (given, inner if isinstance(inner, Mapping) else {}):
        for key in (name, f"{name}+"):
            if key in holder:
                appended = key.endswith("+") and not isinstance(holder[key], list | tuple)
                return [holder[key]] if appended else holder[key]
    return None


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_plain(annotation: Any) -> bool:
    """Whether an annotation accepts only plain data, so that a text is never read as the name of a class to import."""
    if get_origin(annotation) is Literal:
        return True
    arguments = [each for each in get_args(annotation) if each is not Ellipsis]
    if get_origin(annotation) is Callable or annotation in (Any, inspect.Parameter.empty):
        return False
    if arguments:
        return all(_is_plain(each) for each in arguments)
    return annotation in _PLAIN


def _annotation(of: type, name: str) -> Any:
    """Type of a constructor's argument, also if a class passes its arguments on to a base class.

    Returns:
        The annotation, or `inspect.Parameter.empty` if the argument has none; None if there is no such argument.
    """
    for each in of.__mro__:
        constructor = each.__dict__.get("__init__")
        if constructor is None:
            continue
        parameters = inspect.signature(constructor).parameters
        if name in parameters and parameters[name].kind not in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        ):
            return _hints(constructor).get(name, inspect.Parameter.empty)
        if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
            return None
    return None


@cache
def _hints(constructor: Any) -> dict[str, Any]:
    """Types of a constructor's arguments, without types that are only importable for a type checker."""
    found: dict[str, Any] = {}
    names = inspect.unwrap(constructor).__globals__
    for name, annotation in constructor.__annotations__.items():
        with contextlib.suppress(NameError):
            found |= get_type_hints(SimpleNamespace(__annotations__={name: annotation}), names)
    return found


def _default(named: str, argument: str) -> Any:
    """Default value of an argument of a class that the user has named, and that the run will import anyway."""
    from contrast.commands.completing import default_of

    return default_of(named, argument)


def _default_function(of: type, argument: str) -> str | None:
    """The name that a resolved configuration has for an argument whose default value is a function."""
    for each in of.__mro__:
        constructor = each.__dict__.get("__init__")
        parameter = inspect.signature(constructor).parameters.get(argument) if constructor else None
        if parameter is not None:
            default = parameter.default
            return f"{default.__module__}.{default.__qualname__}" if inspect.isfunction(default) else None
    return None


@cache
def _own_classes() -> dict[str, type]:
    """This package's concrete classes that a configuration can name, by short name."""
    places = (models, data, series, views, losses, banks, methods, optim)
    found = {name: getattr(place, name) for place in places for name in place.__all__ if name not in _OF_LOADERS}
    return {
        name: each
        for name, each in found.items()
        if isinstance(each, type) and issubclass(each, _KINDS) and not inspect.isabstract(each)
    }


@cache
def _outer_classes() -> dict[str, type]:
    """Allowed classes of other packages, by every dotted name that jsonargparse may write for them."""
    listed: list[type] = [getattr(torchvision.datasets, name) for name in _TORCHVISION]
    optimizers = (getattr(torch.optim, name) for name in torch.optim.__all__)
    listed += [each for each in optimizers if inspect.isclass(each) and issubclass(each, torch.optim.Optimizer)]
    listed += [WandbLogger, TensorBoardLogger, CSVLogger, DDPStrategy]
    return {name: each for each in listed for name in (_full_name(each), f"{each.__module__}.{each.__name__}")}


def _full_name(of: type) -> str:
    """The dotted name of a class in the outermost package that exports it."""
    module = of.__module__.split(".")
    for depth in range(1, len(module) + 1):
        package = sys.modules.get(".".join(module[:depth]))
        if getattr(package, of.__name__, None) is of:
            return f"{'.'.join(module[:depth])}.{of.__name__}"
    return f"{of.__module__}.{of.__qualname__}"
