from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset

from contrast.data.folder import ImageFolder
from contrast.data.labels import check_same_classes, labels_of
from contrast.errors import InputError
from tests.data.formats import write_image_folder

PIXELS = np.zeros((2, 2), np.uint8)


class Labelled(Dataset[Any]):
    """Items with labels, which count how often they are read."""

    def __init__(self, given: Any, /, classes: list[Any] | None = None, **columns: Any) -> None:
        self.given, self.read = given, 0
        if classes is not None:
            self.classes = classes
        self.__dict__.update(columns)

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return PIXELS, self.given[index]


def found(source: Dataset[Any]) -> list[int] | None:
    labels = labels_of(source)
    assert labels is None or labels.dtype == torch.int64
    return None if labels is None else labels.tolist()


@pytest.mark.parametrize("name", ["targets", "labels", "_labels"])
@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor, lambda x: np.array(x, dtype=np.uint8)])
def test_a_column_of_labels_is_taken_without_reading_an_image(name: str, form: Any):
    source = Labelled([7, 7, 7], **{name: form([2, 0, 1])})
    assert found(source) == [2, 0, 1]
    assert source.read == 0


@pytest.mark.parametrize("column", [["cat", "dog"], [[1, 0], [0, 1]], [[1], [1, 2]], np.zeros((2, 8)), [0.5, 1.0]])
def test_a_column_of_something_else_is_not_taken(column: Any):
    source = Labelled([4, 5], targets=column)
    assert found(source) == [4, 5]
    assert source.read == 2


def test_without_a_column_every_item_is_read_once():
    source = Labelled([3, 1, -1, 0])
    assert found(source) == [3, 1, -1, 0]
    assert source.read == 4


def test_minus_one_everywhere_is_no_label():
    assert found(Labelled([-1, -1])) is None
    assert found(Labelled([5, 5], targets=[-1, -1])) is None
    assert found(Labelled([5, 5], labels=None)) is None
    assert found(Labelled([5, 5], targets=[-1, 0])) == [-1, 0]


def test_a_target_transform_is_applied():
    def swap(label: int) -> int:
        return 1 - label

    assert found(Labelled([1, 0, 0], targets=[0, 1, 1], target_transform=swap)) == [1, 0, 0]
    assert found(Labelled([1, 0, 0], targets=[0, 1, 1], target_transform=None)) == [0, 1, 1]


def test_subsets_and_concatenations_keep_their_columns():
    source = Labelled([9] * 4, targets=[3, 2, 1, 0])
    assert found(Subset(source, [2, 0])) == [1, 3]
    assert found(Subset(Subset(source, [2, 0, 3]), [1])) == [3]
    assert found(ConcatDataset([source, Subset(source, [1])])) == [3, 2, 1, 0, 2]
    assert found(ConcatDataset([source, Labelled([9], labels=None)])) == [3, 2, 1, 0, -1]
    assert source.read == 0
    plain = Labelled([6, 7, 8])
    assert found(Subset(plain, [2, 1])) == [8, 7]
    assert plain.read == 2
    assert found(ConcatDataset([source, plain])) == [9, 9, 9, 9, 6, 7, 8]
    assert found(Subset(Labelled([9] * 3, targets=[-1, -1, 0]), [0, 1])) is None


def test_a_column_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"Labelled.targets: 3 labels for 2 samples"):
        labels_of(Labelled([0, 0], targets=[0, 1, 2]))
    with pytest.raises(InputError, match=r"Labelled.labels: a label is -3"):
        labels_of(Labelled([0, 0], labels=[0, -3]))
    with pytest.raises(InputError, match=r"sample 1 of Labelled: the label 'dog' is not an integer"):
        labels_of(Labelled([0, "dog"]))


def refusal(train: Dataset[Any], test: Dataset[Any]) -> str:
    with pytest.raises(InputError) as refused:
        check_same_classes(train, test)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_same_classes_pass():
    train = Labelled([0, 1, 2, 0], classes=["a", "b", "c"])
    check_same_classes(train, Labelled([2, 0], classes=["a", "b", "c"]))
    check_same_classes(train, Labelled([2, -1]))
    check_same_classes(train, Labelled([-1, -1]))
    check_same_classes(Labelled([-1, -1]), train)
    check_same_classes(Subset(train, [0, 1]), Subset(train, [3]))


def test_a_class_that_was_never_trained_is_named():
    train = Labelled([0, 1, 0], classes=["a", "b", "c"])
    test = Labelled([0, 2], classes=["a", "b", "c"])
    assert "the training set has no sample of class 'c', which the test set has" in refusal(train, test)
    assert "no sample of classes 2, 3, 4, 5, 6 and 3 more" in refusal(Labelled([0, 1]), Labelled(list(range(10))))
    assert "no sample of class ('tench, Tinca')" in refusal(
        Labelled([0], classes=["a", ("tench", "Tinca")]), Labelled([1], classes=["a", ("tench", "Tinca")])
    ).replace("class 'tench, Tinca'", "class ('tench, Tinca')")
    assert "no sample of class 1, which" in refusal(Subset(Labelled([0, 1, 1]), [0]), Labelled([0, 1]))


def test_folders_that_count_their_classes_differently_are_refused(tmp_path: Path):
    write_image_folder(tmp_path / "all", 6, classes=("ant", "bee", "cat"))
    write_image_folder(tmp_path / "two", 6, classes=("ant", "cat"))
    write_image_folder(tmp_path / "new", 6, classes=("ant", "dog"))
    every, two, new = (ImageFolder(tmp_path / name / "train") for name in ("all", "two", "new"))
    assert "class 'cat' is number 2 of the training set and number 1 of the test set" in refusal(every, two)
    assert "class 'cat' is number 1 of the training set and number 2 of the test set" not in refusal(two, every)
    assert "no sample of class 'bee'" in refusal(two, every)
    assert "no sample of class 'dog'" in refusal(every, new)
    check_same_classes(every, ImageFolder(tmp_path / "all" / "test"))
