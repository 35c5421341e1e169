from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch.utils.data import Dataset

from contrast.data.folder import ImageFolder
from contrast.data.indexed import IndexedImages, labels_of
from tests.data.formats import (
    draw,
    own_checksums,
    write_cifar10,
    write_cifar100,
    write_fashion_mnist,
    write_image_folder,
    write_stl10,
)


def check(source: Dataset[Any], draws: list[tuple[int, int]], height: int, width: int, channels: int) -> None:
    """Every image of a published format comes through bit by bit, with its number and its label."""
    images = IndexedImages(source, channels)
    assert len(images) == len(draws)
    for place, (label, number) in enumerate(draws):
        image, index, found = images[place]
        drawn = draw(label, number, height, width).transpose(2, 0, 1)[:channels]
        assert image.dtype == torch.uint8
        assert np.array_equal(image.numpy(), drawn)
        assert (index, found) == (place, label)
    labels = labels_of(source)
    assert labels is not None
    assert labels.tolist() == [label for label, _ in draws]


@pytest.mark.parametrize("train", [True, False])
def test_cifar(tmp_path: Path, train: bool):
    write_cifar10(tmp_path, 12)
    write_cifar100(tmp_path, 12)
    numbers = range(12) if train else range(12, 24)
    for name, classes in (("CIFAR10", 10), ("CIFAR100", 100)):
        cifar = getattr(torchvision.datasets, name)
        with own_checksums(cifar, tmp_path):
            source = cifar(tmp_path, train=train)
        check(source, [(number % classes, number) for number in numbers], 32, 32, 3)


def test_checksums_are_still_checked(tmp_path: Path):
    write_cifar10(tmp_path, 5)
    with own_checksums(torchvision.datasets.CIFAR10, tmp_path):
        torchvision.datasets.CIFAR10(tmp_path)
        os.remove(tmp_path / "cifar-10-batches-py" / "data_batch_3")
        with pytest.raises(RuntimeError, match="not found or corrupted"):
            torchvision.datasets.CIFAR10(tmp_path)
    write_cifar10(tmp_path, 5)
    with pytest.raises(RuntimeError, match="not found or corrupted"):
        torchvision.datasets.CIFAR10(tmp_path)


def test_stl10(tmp_path: Path):
    write_stl10(tmp_path, 4)
    with own_checksums(torchvision.datasets.STL10, tmp_path):
        read = {split: torchvision.datasets.STL10(tmp_path, split=split)
                for split in ("train", "test", "unlabeled", "train+unlabeled")}  # fmt: skip
    check(read["train"], [(number % 10, number) for number in range(4)], 96, 96, 3)
    check(read["test"], [(number % 10, number) for number in range(4, 8)], 96, 96, 3)
    unlabelled = IndexedImages(read["unlabeled"], 3)
    assert labels_of(read["unlabeled"]) is None
    assert np.array_equal(unlabelled[1][0].numpy(), draw(9, 9, 96, 96).transpose(2, 0, 1))
    assert unlabelled[1][1:] == (1, -1)
    both = labels_of(read["train+unlabeled"])
    assert both is not None
    assert both.tolist() == [0, 1, 2, 3, -1, -1, -1, -1]
    assert torchvision.datasets.STL10.train_list[0][1] == "918c2871b30a85fa023e0c44e0bee87f"


def test_fashion_mnist(tmp_path: Path):
    write_fashion_mnist(tmp_path, 11)
    for train, numbers in ((True, range(11)), (False, range(11, 22))):
        source = torchvision.datasets.FashionMNIST(tmp_path, train=train)
        check(source, [(number % 10, number) for number in numbers], 28, 28, 1)
    assert IndexedImages(source, 3)[0][0].shape == (3, 28, 28)


def test_both_image_folders_agree(tmp_path: Path):
    write_image_folder(tmp_path, 9, classes=("a", "b", "c"), size=(10, 12))
    theirs = IndexedImages(torchvision.datasets.ImageFolder(tmp_path / "train"), 3)
    ours = IndexedImages(ImageFolder(tmp_path / "train"), 3)
    assert len(theirs) == len(ours) == 9
    for place in range(9):
        assert torch.equal(theirs[place][0], ours[place][0])
        assert theirs[place][1:] == ours[place][1:]
    draws = [(label, number) for label in range(3) for number in range(label, 9, 3)]
    check(ImageFolder(tmp_path / "train"), draws, 10, 12, 3)
