"""Caches and protocols know data by all of their content: any one change of a sample, label, name or file is seen."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset
from torchvision.datasets import CIFAR10
from torchvision.datasets import ImageFolder as TorchvisionFolder

from contrast.data import ArrayImages, ArraySeries, Digits, ImageData, ImageFolder, SeriesData, SimCLRViews, TsFile
from contrast.data.identity import DataIdentity, appended, identity_of, match_samples, names_of
from contrast.data.indexed import IndexedImages
from contrast.data.series import SeriesViews

COUNT = 7


@dataclass(frozen=True)
class Samples:
    """Images with labels and names, from which a data set of each kind is written."""

    images: np.ndarray
    labels: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, seed: int) -> Samples:
        images = np.random.default_rng(seed).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
        return cls(images, tuple(number % 2 for number in range(COUNT)), tuple(f"i{n}" for n in range(COUNT)))


class Own(Dataset[Any]):
    """A class of the user's own, of which nothing is known but its items."""

    def __init__(self, images: np.ndarray, labels: tuple[int, ...]) -> None:
        self.kept = images, labels

    def __len__(self) -> int:
        return len(self.kept[1])

    def __getitem__(self, index: int) -> Any:
        return self.kept[0][index], self.kept[1][index]


class Inverted(ArrayImages):
    """Another class of the user's own, whose samples are not those of its base class."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return 255 - image, label

    def images_at(self, index: Any) -> Any:
        return 255 - super().images_at(index)


def _npz(folder: Path, samples: Samples) -> Dataset[Any]:
    np.savez(folder / "a.npz", images=samples.images, labels=np.array(samples.labels))
    return ArrayImages(folder / "a.npz")


def _npy(folder: Path, samples: Samples) -> Dataset[Any]:
    np.save(folder / "a.npy", samples.images)
    return ArrayImages(folder / "a.npy")


def _inverted(folder: Path, samples: Samples) -> Dataset[Any]:
    _npz(folder, samples)
    return Inverted(folder / "a.npz")


def _write_files(folder: Path, samples: Samples) -> Path:
    """PNG files by class; one that is already there with these pixels is left alone, its time with it."""
    root, wanted = folder / "photos", set()
    for image, label, name in zip(samples.images, samples.labels, samples.names, strict=True):
        path = root / ("cat", "dog")[label] / f"{name}.png"
        wanted.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or not (np.asarray(Image.open(path)) == image).all():
            Image.fromarray(image).save(path)
    for path in set(root.glob("*/*.png")) - wanted:
        path.unlink()
    return root


def _cifar(folder: Path, samples: Samples) -> Dataset[Any]:
    made = CIFAR10.__new__(CIFAR10)
    made.data, made.targets = samples.images, list(samples.labels)
    made.transform = made.target_transform = made.transforms = None
    return made


def _ts(folder: Path, samples: Samples) -> Dataset[Any]:
    lines = [
        f"{','.join(map(str, image.flatten()[:12]))}:{'ab'[label]}"
        for image, label in zip(samples.images, samples.labels, strict=True)
    ]
    (folder / "a.ts").write_text("@timeStamps false\n@classLabel true a b\n@data\n" + "\n".join(lines))
    return TsFile(folder / "a.ts")


def _series(folder: Path, samples: Samples) -> Dataset[Any]:
    series = samples.images.reshape(COUNT, 1, -1)[:, :, :12]
    np.savez(folder / "s.npz", series=series, labels=np.array(samples.labels))
    return ArraySeries(folder / "s.npz")


def _two_parts(folder: Path, samples: Samples) -> Dataset[Any]:
    cut = COUNT // 2
    first, second = (
        replace(samples, images=samples.images[part], labels=samples.labels[part], names=samples.names[part])
        for part in (slice(None, cut), slice(cut, None))
    )
    (folder / "first").mkdir(exist_ok=True)
    return ConcatDataset([_npz(folder / "first", first), Own(second.images, second.labels)])


BUILT: dict[str, Callable[[Path, Samples], Dataset[Any]]] = {
    "npz": _npz,
    "npy": _npy,
    "a class made from ours": _inverted,
    "folder": lambda folder, samples: ImageFolder(_write_files(folder, samples)),
    "folder by all bytes": lambda folder, samples: ImageFolder(_write_files(folder, samples), full_checksum=True),
    "packed folder": lambda folder, samples: ImageFolder(_write_files(folder, samples), cache=folder / "a.pack"),
    "torchvision's folder": lambda folder, samples: TorchvisionFolder(_write_files(folder, samples)),
    "torchvision's array": _cifar,
    "own class": lambda folder, samples: Own(samples.images, samples.labels),
    "tensors": lambda folder, samples: TensorDataset(
        torch.from_numpy(samples.images.transpose(0, 3, 1, 2).copy()), torch.tensor(samples.labels)
    ),
    "subset": lambda folder, samples: Subset(_npz(folder, samples), list(range(COUNT))),
    "two parts": _two_parts,
    "series": _series,
    "ts": _ts,
}
SERIES = ("series", "ts")
UNLABELLED = ("npy",)
NAMED = ("folder", "folder by all bytes", "packed folder", "torchvision's folder")


def _key(kind: str, folder: Path, samples: Samples) -> dict[str, Any]:
    made = BUILT[kind](folder, samples)
    if kind in SERIES:  # mean and deviation given, so that they do not change with the data
        return SeriesData(made, SeriesViews(), mean=(0.0,), std=(1.0,)).key("train")
    return ImageData(made, SimCLRViews(size=8)).key("train")


def _changed(samples: Samples, what: str, place: int, value: int) -> Samples:
    images, labels, names = samples.images.copy(), list(samples.labels), list(samples.names)
    if what == "sample":
        images[place, 0, value % 4, 0] ^= 1
    elif what == "label":
        labels[place] = 1 - labels[place]
    elif what == "name":
        names[place] = f"another{place}"
    else:
        other = (place + 1 + value % (COUNT - 1)) % COUNT
        images[[place, other]] = images[[other, place]]
    return Samples(images, tuple(labels), tuple(names))


def _changes(kind: str) -> list[str]:
    labels = [] if kind in UNLABELLED else ["label"]
    return ["sample", "two exchanged", *labels, *(["name"] if kind in NAMED else [])]


@pytest.mark.parametrize("kind", BUILT)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_one_change_of_sample_label_or_name_changes_the_key(kind: str, data: st.DataObject) -> None:
    samples = Samples.of(data.draw(st.integers(0, 3)))
    what, place = data.draw(st.sampled_from(_changes(kind))), data.draw(st.integers(0, COUNT - 1))
    other = _changed(samples, what, place, data.draw(st.integers(0, 20)))
    with tempfile.TemporaryDirectory() as folder:
        before = _key(kind, Path(folder), samples)
        assert _key(kind, Path(folder), samples) == before  # unchanged, and read by another object
        assert _key(kind, Path(folder), other) != before


@pytest.mark.parametrize("full", [False, True])
@settings(max_examples=8, deadline=None)
@given(place=st.integers(0, COUNT - 1))
def test_a_file_of_equal_name_size_and_time_is_seen_by_a_full_checksum_only(full: bool, place: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = _write_files(Path(folder), Samples.of(0))

        def key() -> dict[str, Any]:
            return ImageData(ImageFolder(root, full_checksum=full), SimCLRViews(size=8)).key("train")

        before, path = key(), sorted(root.rglob("*.png"))[place]
        state, content = path.stat(), bytearray(path.read_bytes())
        content[-13] ^= 1
        path.write_bytes(bytes(content))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert (key() != before) is full


def test_a_packed_cache_is_packed_again_by_a_full_checksum(tmp_path):
    root = _write_files(tmp_path, Samples.of(0))
    path = root / "cat" / "i0.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, format="BMP")  # of one size whatever it shows
    for name, full in (("a", False), ("b", True)):
        assert int(ImageFolder(root, cache=tmp_path / name, full_checksum=full)[0][0].max()) == 0
    state = path.stat()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(path, format="BMP")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert int(ImageFolder(root, cache=tmp_path / "b", full_checksum=True)[0][0].max()) == 255
    assert int(ImageFolder(root, cache=tmp_path / "a")[0][0].max()) == 0  # size and time are the same


def test_the_size_to_which_a_cache_reduces_images_is_part_of_the_key(tmp_path):
    root = _write_files(tmp_path, Samples.of(0))
    folders = [ImageFolder(root, cache=tmp_path / f"{size}", cache_size=size) for size in (4, 6, None)]
    keys = [ImageData(folder, SimCLRViews(size=8)).key("train")["contents"] for folder in folders]
    assert len(set(keys)) == 3


def test_the_evaluation_transform_is_part_of_the_key():
    keys = [ImageData(Digits(), SimCLRViews(size=size), channels=1).key("train") for size in (8, 12)]
    assert keys[0] != keys[1]
    assert keys[0]["contents"] == keys[1]["contents"]


def test_an_identity_is_the_same_on_another_machine_whose_files_have_other_times(tmp_path):
    root = _write_files(tmp_path, Samples.of(0))
    identities = []
    for moment in (1_000_000_000, 1_500_000_000):
        for path in root.rglob("*.png"):
            os.utime(path, (moment, moment))
        identities.append(identity_of(IndexedImages(ImageFolder(root), 3), thorough=False))
    assert identities[0].contents == identities[1].contents
    assert identities[0].contents_of == "sizes of the files"


def test_a_class_of_unknown_kind_is_not_read_for_an_identity_but_for_a_key(tmp_path):
    samples = IndexedImages(Own(Samples.of(0).images, Samples.of(0).labels), 3)
    assert identity_of(samples, thorough=False).contents is None
    assert identity_of(samples, thorough=True).contents_of == "every sample, read once"


def test_an_argument_by_which_a_class_of_ones_own_changes_samples_is_seen(tmp_path):
    """Such a class is not known by the bytes of its base class, which stay the same."""

    class Dimmed(ArrayImages):
        def __init__(self, path: Path, by: int) -> None:
            super().__init__(path)
            self.by = by

        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            return image // self.by, label

    _npz(tmp_path, Samples.of(0))
    keys = [ImageData(Dimmed(tmp_path / "a.npz", by), SimCLRViews(size=8)).key("train") for by in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]


def test_a_transform_of_torchvisions_makes_every_sample_be_read(tmp_path):
    root = _write_files(tmp_path, Samples.of(0))
    dark = TorchvisionFolder(root, transform=lambda image: image.point(lambda value: value // 2))
    keys = [ImageData(made, SimCLRViews(size=8)).key("train") for made in (TorchvisionFolder(root), dark)]
    assert keys[0]["contents"] != keys[1]["contents"]


@pytest.mark.parametrize("kind", NAMED)
def test_names_are_paths_within_the_folder_through_subset_and_parts(kind, tmp_path):
    made = BUILT[kind](tmp_path, Samples.of(0))
    names = ["cat/i0.png", "cat/i2.png", "cat/i4.png", "cat/i6.png", "dog/i1.png", "dog/i3.png", "dog/i5.png"]
    assert names_of(made) == names
    assert names_of(Subset(Subset(made, [6, 0, 4]), [2, 1])) == ["dog/i1.png", "cat/i0.png"]
    assert names_of(ConcatDataset([Subset(made, [0]), Subset(made, [0])])) == ["0/cat/i0.png", "1/cat/i0.png"]
    data = ImageData(Subset(made, [6, 0]), SimCLRViews(size=8))
    assert data.sample_names("train") == ["dog/i5.png", "cat/i0.png"]
    assert (data.class_name(1), data.class_name(2), data.class_name(None)) == ("dog", None, None)
    assert data.describe("train")["path"] == str(tmp_path / "photos")
    assert data.describe("train")["classes"] == ["cat", "dog"]


def test_a_file_name_that_is_no_text_can_be_written_to_json_and_html(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    Image.new("L", (8, 8)).save(tmp_path / "kept.png")
    os.rename(tmp_path / "kept.png", tmp_path / name)
    Image.new("L", (8, 8)).save(tmp_path / "h\u00fctte.png")
    names = names_of(ImageFolder(tmp_path))
    assert names is not None
    assert sorted(names) == ["caf\\xe9.png", "h\u00fctte.png"]
    assert all(name.encode() for name in names)


@given(
    old=st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12),
    new=st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=12),
)
def test_samples_of_one_name_are_matched_whatever_their_order(old: list[int], new: list[int]) -> None:
    def named(numbers: list[int]) -> DataIdentity:
        return DataIdentity(len(numbers), "", None, None, "", torch.tensor(numbers))

    found = match_samples(named(old), named(new))
    assert found is not None
    assert [old[place] if place >= 0 else None for place in found.old_of.tolist()] == [
        n if n in old else None for n in new
    ]
    assert [new[place] if place >= 0 else None for place in found.new_of.tolist()] == [
        n if n in new else None for n in old
    ]


def test_samples_without_names_or_with_a_name_twice_are_not_matched():
    named = DataIdentity(2, "", None, None, "", torch.tensor([1, 2]))
    assert match_samples(named, replace(named, name_keys=None)) is None
    assert match_samples(named, replace(named, name_keys=torch.tensor([1, 1]))) is None
    assert appended(2, 3).old_of.tolist() == [0, 1, -1]


class Halved(ArrayImages):
    """As `Inverted`, with other samples of the same file."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image // 2, label

    def images_at(self, index: Any) -> Any:
        return super().images_at(index) // 2


def test_samples_of_a_class_made_from_ours_are_its_own(tmp_path: Path) -> None:
    """One file, three classes: the base class's checksum of the file is right for the base class only."""
    _npz(tmp_path, Samples.of(0))
    contents = {
        identity_of(IndexedImages(kind(tmp_path / "a.npz"), channels=3), thorough=True).contents
        for kind in (ArrayImages, Inverted, Halved)
    }
    assert len(contents) == 3
