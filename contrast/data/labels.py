"""Labels and class names of data sets of any class, and checks that training and test set use the same classes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset
from tqdm import tqdm

from contrast.data.sources import UNLABELLED, Source, map_style, read_label
from contrast.errors import InputError

__all__ = ["check_same_classes", "class_names", "integer_labels", "labels_of", "listed_labels", "named_labels"]

# Attributes in which torchvision's and our classes keep one label per sample.
_COLUMNS = ("targets", "labels", "_labels")


def labels_of(source: Dataset[Any] | Source) -> Int64[Tensor, " n"] | None:
    """Labels of all samples, int64, -1 for a sample without a label; None if no sample has a label.

    Labels are taken from `.targets`, `.labels` or `._labels`, one integer per sample, also inside Subset and
    ConcatDataset, and go through the data set's `target_transform`. If a data set has none of these attributes, all its
    samples are read once.

    Args:
        source: any map-style data set.

    Raises:
        InputError: if the number of labels differs from the number of samples, or a label is not a class number.
    """
    labels = listed_labels(source)
    if labels is None:
        samples = map_style(source)
        places = tqdm(range(len(samples)), "reading every label once", delay=2, leave=False)
        labels = torch.tensor([read_label(samples, place) for place in places], dtype=torch.int64)
    return None if bool((labels == UNLABELLED).all()) else labels


def integer_labels(values: npt.NDArray[Any], count: int, name: str) -> Int64[Tensor, " n"]:
    """Check that an array has one class number per sample, and convert it to int64.

    Args:
        values: (count,) or (count, 1).
        count: number of samples.
        name: name of the array in error messages.

    Raises:
        InputError: if the values are not `count` integers, or one is below -1.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iub":
        raise InputError(
            f"{name}: {values.dtype} of shape {values.shape}: give integers of shape ({count},), one class number "
            "per sample, or set labels: null"
        )
    if len(values) != count:
        raise InputError(f"{name}: {len(values)} labels for {count} samples: give one per sample")
    labels = torch.from_numpy(values.astype(np.int64))
    if bool((labels < UNLABELLED).any()):
        raise InputError(f"{name}: a label is {int(labels.min())}: classes are numbered from 0, and -1 means no label")
    return labels


def named_labels(values: npt.NDArray[Any], count: int, name: str) -> tuple[Int64[Tensor, " n"], list[str]]:
    """Labels of an array, and the names of the classes if the array holds texts; integer labels have no names.

    Names are numbered in natural order, "2" before "10".

    Args:
        values: (count,) or (count, 1), integers or texts.
        count: number of samples.
        name: name of the array in error messages.

    Raises:
        InputError: as for `integer_labels`.
    """
    if values.dtype.kind not in "US":
        return integer_labels(values, count, name), []
    texts = values.astype(str)
    classes = sorted(set(texts.flatten().tolist()), key=_natural)
    number = {each: place for place, each in enumerate(classes)}
    numbers = np.array([number[each] for each in texts.flatten().tolist()], dtype=np.int64).reshape(texts.shape)
    return integer_labels(numbers, count, name), classes


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part.casefold() for place, part in enumerate(parts)], name


def check_same_classes(train: Dataset[Any] | Source, test: Dataset[Any] | Source) -> None:
    """Check that every class of the test set is in the training set with the same number.

    The check passes if one of the sets has no labels.

    Args:
        train: the training set.
        test: the test set.

    Raises:
        InputError: for a class of the test set without a sample in the training set, and for a class with different
            numbers in the two sets (as in two folders of which one lacks a class folder).
    """
    train_labels, test_labels = labels_of(train), labels_of(test)
    if train_labels is None or test_labels is None:
        return
    train_names, test_names = class_names(train), class_names(test)
    tested = sorted(set(test_labels.tolist()) - {UNLABELLED})
    if train_names and test_names:
        _refuse_renumbered(train_names, test_names, tested)
    trained = set(train_labels.tolist())
    names = train_names or test_names
    unseen = [_name(label, names) for label in tested if label not in trained]
    if unseen:
        raise InputError(
            f"the training set has no sample of {_listing(unseen)}, which the test set has: {_SAME_CLASSES}"
        )


_SAME_CLASSES = "give both sets the same classes, with at least one sample of each"


def _refuse_renumbered(train_names: list[str], test_names: list[str], tested: list[int]) -> None:
    number = {name: place for place, name in enumerate(train_names)}
    named = [label for label in tested if label < len(test_names)]
    unknown = [repr(test_names[label]) for label in named if test_names[label] not in number]
    if unknown:
        raise InputError(
            f"the training set has no sample of {_listing(unknown)}, which the test set has: {_SAME_CLASSES}"
        )
    for label in named:
        name = test_names[label]
        if number[name] != label:
            raise InputError(
                f"class {name!r} is number {number[name]} of the training set and number {label} of the test set, "
                f"as one of them lacks a class: {_SAME_CLASSES}"
            )


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"class {', '.join(names[:5])}{more}" if len(names) == 1 else f"classes {', '.join(names[:5])}{more}"


def _name(label: int, names: list[str]) -> str:
    return repr(names[label]) if label < len(names) else str(label)


def class_names(source: object) -> list[str]:
    """Class names in the order of their labels, from `.classes`, also inside Subset and ConcatDataset.

    Empty if the data set names no classes, or if the parts of a ConcatDataset have different names.
    """
    if isinstance(source, Subset):
        return class_names(source.dataset)
    if isinstance(source, ConcatDataset):
        parts = [class_names(part) for part in source.datasets]
        return parts[0] if all(names == parts[0] for names in parts) else []
    classes = getattr(source, "classes", None)
    if not isinstance(classes, list | tuple):
        return []
    # ImageNet's class names are tuples of synonyms.
    return [", ".join(map(str, name)) if isinstance(name, list | tuple) else str(name) for name in classes]


def listed_labels(source: object) -> Int64[Tensor, " n"] | None:
    """Labels that are available without reading a sample, -1 for a sample without a label; None if there are none."""
    if isinstance(source, Subset):
        whole = listed_labels(source.dataset)
        return None if whole is None else whole[torch.as_tensor(source.indices)]
    if isinstance(source, ConcatDataset):
        parts = [listed_labels(part) for part in source.datasets]
        known = [part for part in parts if part is not None]
        return torch.cat(known) if len(known) == len(parts) else None
    for name in _COLUMNS:
        if hasattr(source, name):
            return _column(source, name)
    return None


def _column(source: object, name: str) -> Tensor | None:
    assert isinstance(source, Source)
    values = getattr(source, name)
    if values is None:
        return torch.full((len(source),), UNLABELLED)
    transform = getattr(source, "target_transform", None)
    if transform is not None:
        values = [transform(value) for value in values]
    try:
        array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    except ValueError:  # lists of unequal length
        return None
    if array.ndim != 1 or array.dtype.kind not in "iub":  # the attribute is something else; read labels from the items
        return None
    return integer_labels(array, len(source), f"{type(source).__name__}.{name}")
