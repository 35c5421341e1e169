from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrast.data.arrays import ArrayImages
from contrast.data.indexed import IndexedImages, labels_of
from contrast.errors import InputError
from tests.data.formats import draw

RGB = np.stack([draw(number % 3, number, 6, 8) for number in range(5)])
LABELS = np.array([0, 1, 2, 0, 1])


def refusal(path: Path, **names: Any) -> str:
    with pytest.raises(InputError) as refused:
        ArrayImages(path, **names)
    assert "\n" not in str(refused.value)
    assert repr(str(path)) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_named_arrays_are_images_and_labels(tmp_path: Path, compressed: bool):
    path = tmp_path / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, images=RGB, labels=LABELS)
    images = ArrayImages(path)
    assert len(images) == 5
    for place in range(5):
        image, label = images[place]
        assert np.array_equal(image.numpy(), RGB[place].transpose(2, 0, 1))
        assert label == LABELS[place]
    labels = labels_of(images)
    assert labels is not None
    assert labels.tolist() == LABELS.tolist()


def test_other_names_and_no_labels(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, x_train=RGB, y_train=LABELS)
    assert ArrayImages(path, "x_train", "y_train")[2][1] == 2
    assert ArrayImages(path, "x_train", None)[2][1] is None
    assert labels_of(ArrayImages(path, "x_train", None)) is None
    assert "no array 'images'; known: x_train, y_train" in refusal(path)
    message = refusal(path, images="x_train", labels="y_trian")
    assert "no array 'y_trian'; did you mean 'y_train'?" in message
    assert "set labels: null" in refusal(path, images="x_train")


@pytest.mark.parametrize(
    "stack", [RGB, RGB.transpose(0, 3, 1, 2), RGB[:, :, :, 0], RGB[:, :, :, :1], RGB[:, None, :, :, 0]]
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_every_layout_is_the_same_image(tmp_path: Path, stack: np.ndarray, suffix: str):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, stack)
    else:
        np.savez(path, images=stack)
    colour = 3 in (stack.shape[1], stack.shape[-1])
    images = IndexedImages(ArrayImages(path, labels=None), channels=3 if colour else 1)
    expected = RGB if colour else RGB[:, :, :, :1]
    assert np.array_equal(np.stack([images[place][0].numpy() for place in range(5)]), expected.transpose(0, 3, 1, 2))


def test_floats_become_8_bits(tmp_path: Path):
    for number, dtype in enumerate((np.float16, np.float32, np.float64)):
        np.save(tmp_path / f"{number}.npy", (RGB / 255).astype(dtype))
        images = ArrayImages(tmp_path / f"{number}.npy")
        found = np.stack([images[place][0].numpy() for place in range(5)]).transpose(0, 2, 3, 1)
        assert np.array_equal(found, RGB)
        assert images[0][1] is None


def test_an_npy_is_mapped_and_a_pickled_one_carries_no_pixels(tmp_path: Path):
    big = np.zeros((50, 64, 64, 3), dtype=np.uint8)
    big[7] = 9
    np.save(tmp_path / "a.npy", big.transpose(0, 3, 1, 2))
    images = ArrayImages(tmp_path / "a.npy")
    assert isinstance(images._images, np.memmap)
    packed = pickle.dumps(images)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert len(again) == 50
    assert again[7][0].unique().tolist() == [9]
    np.savez(tmp_path / "a.npz", images=big)
    assert pickle.loads(pickle.dumps(ArrayImages(tmp_path / "a.npz", labels=None)))[7][0].unique().tolist() == [9]


@pytest.mark.parametrize(
    ("stack", "named"),
    [
        (RGB[0, 0], "shape (8, 3)"),
        (np.zeros((2, 55, 66, 77), np.uint8), "neither axis 1 nor the last"),
        (np.zeros((2, 5, 6, 4), np.uint8), "4 channels: images are grey (1) or RGB (3)"),
        (np.zeros((2, 2, 6, 6), np.uint8), "2 channels: images are grey (1) or RGB (3)"),
        (np.zeros((2, 3, 6, 3), np.uint8), "channels could come first or last"),
        (np.zeros((0, 6, 6), np.uint8), "shape (0, 6, 6)"),
        (np.full((2, 4, 4), 0.5) + np.eye(4), "image 0: a pixel of float64 is 1.5"),
        (np.stack([np.zeros((4, 4)), np.full((4, 4), np.nan)]), "image 1: a pixel of float64 is nan"),
        (np.full((2, 4, 4), 256), "image 0: a pixel of int64 is 256"),
        (np.full((2, 4, 4), "x"), "type <U1"),
    ],
)
def test_arrays_that_are_no_images_are_named(tmp_path: Path, stack: np.ndarray, named: str):
    np.save(tmp_path / "a.npy", stack)
    assert named in refusal(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", images=stack)
    assert named in refusal(tmp_path / "a.npz", labels=None)


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (LABELS[:4], "4 labels for 5 samples"),
        (LABELS[:, None].repeat(2, 1), "(5, 2)"),
        (LABELS.astype(float), "float64"),
        (LABELS - 2, "a label is -2"),
        (np.array(list("abcd")), "4 labels for 5 samples"),
    ],
)
def test_arrays_that_are_no_labels_are_named(tmp_path: Path, labels: np.ndarray, named: str):
    np.savez(tmp_path / "a.npz", images=RGB, labels=labels)
    message = refusal(tmp_path / "a.npz")
    assert named in message
    assert "'labels'" in message


def test_labels_of_one_column_and_names_of_classes(tmp_path: Path):
    np.savez(tmp_path / "a.npz", images=RGB, labels=LABELS[:, None])
    column = ArrayImages(tmp_path / "a.npz")
    assert column.labels is not None
    assert (column.labels.tolist(), column.classes) == (LABELS.tolist(), [])
    for names in (np.array(["b10", "a", "b2", "a", "b2"]), np.array([b"b10", b"a", b"b2", b"a", b"b2"])):
        np.savez(tmp_path / "n.npz", images=RGB, labels=names)
        named = ArrayImages(tmp_path / "n.npz")
        assert named.labels is not None
        assert (named.labels.tolist(), named.classes) == ([2, 0, 1, 0, 1], ["a", "b2", "b10"])


class Ran:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_pickled_objects_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([Ran(), None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=objects)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(objects))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(objects))
    for name in ("a.npy", "a.npz", "b.npy", "b.npz"):
        expected = "pickles are never loaded" if name == "a.npz" else "of numbers"
        assert expected in refusal(tmp_path / name, labels=None)
    assert not (tmp_path / "ran").exists()


def test_damaged_missing_and_other_files_are_named(tmp_path: Path):
    file = io.BytesIO()
    np.savez_compressed(file, images=RGB)
    archive = bytearray(file.getvalue())
    np.save(tmp_path / "cut.npy", RGB)
    array = (tmp_path / "cut.npy").read_bytes()
    flipped = archive.copy()
    flipped[len(archive) // 2] ^= 255
    contents = {"cut.npy": array[:-9], "head.npy": array[:40], "empty.npy": b"", "text.npy": b"hello"}
    contents |= {"cut.npz": archive[:-40], "flip.npz": flipped, "empty.npz": b"", "text.npz": b"hello"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert "not a complete" in refusal(tmp_path / name, labels=None)
    for name in ("none.npy", "none.npz"):
        assert "there is no file" in refusal(tmp_path / name)
    assert "neither .npz nor .npy" in refusal(tmp_path / "a.mat")
    (tmp_path / "folder.npz").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.npz")
