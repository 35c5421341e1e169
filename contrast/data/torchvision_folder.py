"""torchvision's ImageFolder and DatasetFolder without the folders inside them that are no data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from torchvision.datasets import DatasetFolder, ImageFolder

from contrast.data.listing import passed_over, say_passed_over

__all__ = ["TORCHVISION_FOLDERS", "torchvision_folder"]

TORCHVISION_FOLDERS: tuple[Callable[..., Any], ...] = (ImageFolder, DatasetFolder)


def torchvision_folder(class_type: Callable[..., DatasetFolder], arguments: Mapping[str, Any]) -> DatasetFolder:
    """A data set of one of torchvision's folder classes; folders of runs and of the system are passed over.

    torchvision takes every subfolder for a class, a run folder too, and every picture in one for a sample.

    Args:
        class_type: the class.
        arguments: of the class, by name.

    Raises:
        FileNotFoundError: as torchvision, for a class folder without a sample.
    """
    root = os.path.expanduser(os.fspath(arguments["root"]))
    passed = passed_over(root)
    if not passed:
        return class_type(**arguments)
    say_passed_over(root, passed)
    made = class_type(**{**arguments, "allow_empty": True})
    outside = [(path, made.classes[label]) for path, label in made.samples if not _lies_in(path, passed)]
    gone = {os.path.relpath(folder, root) for folder in passed}
    made.classes = [name for name in made.classes if name not in gone]
    made.class_to_idx = {name: label for label, name in enumerate(made.classes)}
    made.samples = [(path, made.class_to_idx[name]) for path, name in outside]
    made.targets = [label for _, label in made.samples]
    if hasattr(made, "imgs"):
        made.imgs = made.samples
    empty = sorted(set(made.classes) - {name for _, name in outside})
    if empty and not arguments.get("allow_empty"):
        raise FileNotFoundError(f"Found no valid file for the classes {', '.join(empty)}.")
    return made


def _lies_in(path: str, folders: list[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)
