"""The labels of a data set of any class, and whether a training and a test set mean the same by them."""

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

# The names under which torchvision's classes and ours keep a label a sample.
_COLUMNS = ("targets", "labels", "_labels")


def labels_of(source: Dataset[Any] | Source) -> Int64[Tensor, " n"] | None:
    """The label of every sample, -1 for one that has none; None where no sample has one.

    They are looked up in `.targets`, `.labels` or `._labels`, one integer a sample, through Subset and ConcatDataset,
    and pass through the data set's `target_transform`; a data set without any of these is read once from end to end.

    Raises:
        InputError: where there are more or fewer labels than samples, or a label is no class number.
    """
    labels = listed_labels(source)
    if labels is None:
        samples = map_style(source)
        places = tqdm(range(len(samples)), "reading every label once", delay=2, leave=False)
        labels = torch.tensor([read_label(samples, place) for place in places], dtype=torch.int64)
    return None if bool((labels == UNLABELLED).all()) else labels


def integer_labels(values: npt.NDArray[Any], count: int, name: str) -> Int64[Tensor, " n"]:
    """One class number a sample as int64.

    Args:
        values: (count,) or (count, 1).
        count: how many samples there are.
        name: whose labels they are, for messages.

    Raises:
        InputError: for anything but `count` integers, none below -1.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iub":
        raise InputError(
            f"{name}: {values.dtype} of shape {values.shape}, where ({count},) integers belong: give the number of a "
            "class a sample, or set labels: null"
        )
    if len(values) != count:
        raise InputError(f"{name}: {len(values)} labels for {count} samples: give one a sample")
    labels = torch.from_numpy(values.astype(np.int64))
    if bool((labels < UNLABELLED).any()):
        raise InputError(f"{name}: a label is {int(labels.min())}: classes count from 0, -1 stands for none")
    return labels


def named_labels(values: npt.NDArray[Any], count: int, name: str) -> tuple[Int64[Tensor, " n"], list[str]]:
    """Labels of an array, and the names of the classes where the array holds texts; numbers have no names.

    Names are numbered in natural order, "2" before "10".

    Args:
        values: (count,) or (count, 1), of integers or texts.
        count: how many samples there are.
        name: whose labels they are, for messages.

    Raises:
        InputError: as `integer_labels`.
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
    """See that every class tested on was trained on, under the same number; nothing to see where one has no labels.

    Raises:
        InputError: naming classes of the test set of which the training set has no sample, or a class that the two
            count differently (as two folders do if one lacks a class folder).
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
        raise InputError(f"the training set has no sample of {_listing(unseen)}, which the test set has: {_MEND}")


_MEND = "give both sets the same classes, a sample at least of each"


def _refuse_renumbered(train_names: list[str], test_names: list[str], tested: list[int]) -> None:
    number = {name: place for place, name in enumerate(train_names)}
    named = [label for label in tested if label < len(test_names)]
    unknown = [repr(test_names[label]) for label in named if test_names[label] not in number]
    if unknown:
        raise InputError(f"the training set has no sample of {_listing(unknown)}, which the test set has: {_MEND}")
    for label in named:
        name = test_names[label]
        if number[name] != label:
            raise InputError(
                f"class {name!r} is number {number[name]} of the training set and number {label} of the test set, "
                f"as one of them lacks a class: {_MEND}"
            )


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"class {', '.join(names[:5])}{more}" if len(names) == 1 else f"classes {', '.join(names[:5])}{more}"


def _name(label: int, names: list[str]) -> str:
    return repr(names[label]) if label < len(names) else str(label)


def class_names(source: object) -> list[str]:
    """Names of the classes in the order of their labels, from `.classes`, through Subset and ConcatDataset.

    Empty where the data set names none, and where the parts of a ConcatDataset differ in them.
    """
    if isinstance(source, Subset):
        return class_names(source.dataset)
    if isinstance(source, ConcatDataset):
        parts = [class_names(part) for part in source.datasets]
        return parts[0] if all(names == parts[0] for names in parts) else []
    classes = getattr(source, "classes", None)
    if not isinstance(classes, list | tuple):
        return []
    # ImageNet's are tuples of synonyms.
    return [", ".join(map(str, name)) if isinstance(name, list | tuple) else str(name) for name in classes]


def listed_labels(source: object) -> Int64[Tensor, " n"] | None:
    """Labels that need no sample to be read, -1 for a sample without one; None where there are none of that kind."""
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
    if array.ndim != 1 or array.dtype.kind not in "iub":  # something else by that name; its items know
        return None
    return integer_labels(array, len(source), f"{type(source).__name__}.{name}")
