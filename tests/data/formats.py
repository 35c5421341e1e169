"""Small files in the formats that data sets are published in, for any test that needs a data set on disk.

Every writer makes `root` if need be, writes `count` images to train on and as many to test on, labels them 0, 1, 2, …
in turn, and draws an image from its label and number, so that classes can be told apart and images too. torchvision
reads what they write with its own classes; those of CIFAR and STL-10 check sums, see `own_checksums`.
"""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
STL10_CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
IMAGENET_CLASSES = ["n01440764", "n01443537", "n01484850", "n01491361"]


def draw(label: int, number: int, height: int, width: int) -> Pixels:
    """An RGB image (h, w, 3): a colour ramp by class, with noise by number."""
    noise = np.random.default_rng([label, number]).integers(0, 60, (height, width, 3))
    ramp = np.linspace(0, 120, width)[None, :, None] * np.roll([1.0, 0.6, 0.2], label)
    return (noise + ramp + 7 * (label % 10)).astype(np.uint8)


def write_cifar10(root: Path, count: int) -> None:
    """``root/cifar-10-batches-py``: pickled dicts of (n, 3072) rows, channel by channel; five files to train on."""
    folder = _made(root / "cifar-10-batches-py")
    parts = np.array_split(np.arange(count), 5)
    for name, numbers in zip([f"data_batch_{part}" for part in range(1, 6)], parts, strict=True):
        _pickle(folder / name, _cifar_batch(numbers, 10, "labels") | {"batch_label": name})
    _pickle(folder / "test_batch", _cifar_batch(np.arange(count, 2 * count), 10, "labels"))
    _pickle(folder / "batches.meta", {"label_names": CIFAR10_CLASSES, "num_vis": 3072})


def write_cifar100(root: Path, count: int) -> None:
    """``root/cifar-100-python``: as CIFAR-10, one file each, with fine labels (of 100) and coarse ones (of 20)."""
    folder = _made(root / "cifar-100-python")
    for name, start in (("train", 0), ("test", count)):
        batch = _cifar_batch(np.arange(start, start + count), 100, "fine_labels")
        _pickle(folder / name, batch | {"coarse_labels": [label // 5 for label in batch["fine_labels"]]})
    names = [f"class {label}" for label in range(100)]
    _pickle(folder / "meta", {"fine_label_names": names, "coarse_label_names": names[:20]})


def write_stl10(root: Path, count: int) -> None:
    """``root/stl10_binary``: raw bytes, channel by channel and column by column; labels from 1; `count` unlabelled."""
    folder = _made(root / "stl10_binary")
    for name, start in (("train", 0), ("test", count), ("unlabeled", 2 * count)):
        numbers = range(start, start + count)
        images = np.stack([draw(number % 10, number, 96, 96) for number in numbers])
        images.transpose(0, 3, 2, 1).tofile(folder / f"{name}_X.bin")
        if name != "unlabeled":
            np.array([number % 10 + 1 for number in numbers], dtype=np.uint8).tofile(folder / f"{name}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(STL10_CLASSES) + "\n")
    fold = " ".join(map(str, range(max(1, count // 2))))
    (folder / "fold_indices.txt").write_text(f"{fold} \n" * 10)


def write_fashion_mnist(root: Path, count: int) -> None:
    """``root/FashionMNIST/raw``: idx files, a big-endian head (type 8, axes, sizes) and raw bytes, 28x28 grey."""
    folder = _made(root / "FashionMNIST" / "raw")
    for name, start in (("train", 0), ("t10k", count)):
        numbers = range(start, start + count)
        images = np.stack([draw(number % 10, number, 28, 28)[:, :, 0] for number in numbers])
        labels = np.array([number % 10 for number in numbers], dtype=np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, *images.shape) + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())


def write_image_folder(
    root: Path, count: int, classes: Sequence[str] = ("cat", "dog"), size: tuple[int, int] | None = None
) -> None:
    """``root/{train,test}/class/0.png``: PNG files, of different sizes unless one (height, width) is given."""
    for split, start in (("train", 0), ("test", count)):
        for number in range(start, start + count):
            label = number % len(classes)
            height, width = size or (24 + number % 5, 32 - number % 7)
            folder = _made(root / split / classes[label])
            Image.fromarray(draw(label, number, height, width)).save(folder / f"{number}.png")


def write_imagenet_folder(root: Path, count: int, classes: Sequence[str] = IMAGENET_CLASSES) -> None:
    """``root/{train,val}/n01440764/n01440764_0.JPEG``: sizes differ, some are grey or CMYK, one is a PNG by content."""
    for split, start in (("train", 0), ("val", count)):
        for number in range(start, start + count):
            label = number % len(classes)
            image = Image.fromarray(draw(label, number, 240 + 8 * (number % 5), 270 - 8 * (number % 3)))
            mode = {3: "L", 5: "CMYK"}.get(number % 8, "RGB")
            path = _made(root / split / classes[label]) / f"{classes[label]}_{number}.JPEG"
            image.convert(mode).save(path, "PNG" if number == 2 else "JPEG")


@contextmanager
def own_checksums(dataset_class: type[Any], root: Path) -> Iterator[None]:
    """Within, torchvision's CIFAR10, CIFAR100 or STL10 expects the sums of the files that `root` holds now.

    Its check stays in place (a file missing or changed afterwards is still refused); only the sums it knows are
    replaced, since no small file can have those of the published data. For tests in the same process.
    """
    folder = root / dataset_class.base_folder
    with ExitStack() as stack:
        for name in ("train_list", "test_list"):
            listed = [[file, _md5(folder / file)] for file, _ in getattr(dataset_class, name)]
            stack.enter_context(mock.patch.object(dataset_class, name, listed))
        meta = getattr(dataset_class, "meta", None)
        if meta is not None:
            known = meta | {"md5": _md5(folder / meta["filename"])}
            stack.enter_context(mock.patch.object(dataset_class, "meta", known))
        yield


def _cifar_batch(numbers: npt.NDArray[np.int64], classes: int, key: str) -> dict[str, Any]:
    labels = [int(number) % classes for number in numbers]
    images = [draw(label, int(number), 32, 32) for label, number in zip(labels, numbers, strict=True)]
    rows = np.zeros((len(images), 3072), dtype=np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[:] = image.transpose(2, 0, 1).reshape(-1)
    return {"data": rows, key: labels, "filenames": [f"{number}.png" for number in numbers]}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _pickle(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
