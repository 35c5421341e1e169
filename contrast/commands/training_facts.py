"""What pieces of a loss may ask of the training set: how many samples, and, for the supervised ones, their labels."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

from torch.utils.data import Dataset

from contrast.data import TrainingData
from contrast.data.failures import construction_error
from contrast.data.torchvision_folder import TORCHVISION_FOLDERS, torchvision_folder
from contrast.errors import InputError
from contrast.losses import Piece

__all__ = ["TrainingFacts"]

# What torchvision's classes raise of files that are missing, cut or of another format.
_OF_FILES = (RuntimeError, OSError, ValueError, LookupError, EOFError, AssertionError, UnpicklingError, struct.error)

Instantiator = tuple[Callable[..., Any], type, bool]


class TrainingFacts:
    """Fills `samples` and `labels` of pieces from the data that were built just before them.

    Args:
        received: whether the configuration came out of a file, so that no data set is downloaded.
    """

    def __init__(self, received: bool = False) -> None:
        self._data: TrainingData | None = None
        self._received = received

    def instantiators(self) -> list[Instantiator]:
        """For jsonargparse: how data and pieces are built."""
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
        """A data set; what its class raises of its files becomes one line that names the class."""
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
            said = str(construction_error(f"{class_type.__module__}.{class_type.__qualname__}", kwargs, error))
            fix = "" if "correct root" in said else ": correct the arguments, or get the files again"
            if refused:
                fix = "; `download: true` out of a run folder or checkpoint is not obeyed: add --trust to download"
            raise InputError(f"{said}{fix}") from error
