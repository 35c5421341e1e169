from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from contrast.data.folder import ImageFolder
from contrast.data.indexed import IndexedImages, labels_of
from contrast.data.sources import worker_message
from contrast.errors import InputError
from tests.data.formats import draw, write_image_folder


class Items(Dataset[Any]):
    """A user's class: whatever list it is given."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


PIXELS = draw(0, 0, 6, 5)


def refusal(*items: Any, index: int = 0) -> str:
    with pytest.raises(InputError) as refused:
        IndexedImages(Items(*items), channels=3)[index]
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "item",
    [
        PIXELS,
        (PIXELS, None),
        [PIXELS, -1],
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        Image.fromarray(PIXELS),
        (Image.fromarray(PIXELS), torch.tensor(-1)),
    ],
)
def test_an_item_without_a_label(item: Any):
    image, index, label = IndexedImages(Items(item), 3)[0]
    assert np.array_equal(image.numpy(), PIXELS.transpose(2, 0, 1))
    assert (index, label) == (0, -1)
    assert labels_of(Items(item, item)) is None


@pytest.mark.parametrize("label", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_a_label_of_any_integer_type(label: Any):
    found = IndexedImages(Items((PIXELS, label)), 3)[0][2]
    assert found == 3
    assert type(found) is int


def test_a_class_that_inherits_nothing_will_do():
    class Plain:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            return PIXELS, index

    assert IndexedImages(Plain(), 3)[1][1:] == (1, 1)
    assert len(IndexedImages([(PIXELS, 0)], 3)) == 1


def test_other_items_are_refused():
    assert "image 0 of Items: an item is 3 values" in refusal((PIXELS, 1, 2))
    assert "an item is 1 value:" in refusal((PIXELS,))
    assert "an item is a dict of image, label" in refusal({"image": PIXELS, "label": 1})
    assert "the label 'cat' is not an integer" in refusal((PIXELS, "cat"))
    assert "the label 0.5 is not an integer" in refusal((PIXELS, 0.5))
    assert "the label -2 is negative" in refusal((PIXELS, -2))
    assert "is not an integer" in refusal((PIXELS, torch.zeros(2)))
    assert "image 1 of Items: a pixel of float64 is 7.0" in refusal(PIXELS, np.full((4, 4), 7.0), index=1)
    assert "image 0 of Items: an image of type str" in refusal("cat.png")


def test_other_data_sets_are_refused():
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

        def __len__(self) -> int:
            return 3

    class Endless(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return PIXELS

    for source in (Stream(), Endless()):
        with pytest.raises(InputError, match=f"{type(source).__name__} is not a map-style data set"):
            IndexedImages(source, 3)
    with pytest.raises(InputError, match="Items holds no image"):
        IndexedImages(Items(), 3)
    with pytest.raises(InputError, match="channels 4"):
        IndexedImages(Items(PIXELS), 4)


def test_an_index_out_of_range_is_python_s_own_error():
    images = IndexedImages(Items(PIXELS, PIXELS), 3)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            images[index]
    assert len(list(images)) == 2  # type: ignore[call-overload]  # by the old protocol, which ends at IndexError


def test_a_subset_is_numbered_anew():
    images = IndexedImages(Items(*[(np.full((2, 2), value, np.uint8), value) for value in range(6)]), 1)
    for chosen in (torch.tensor([4, 1, 3]), [4, 1, 3]):
        some = images.subset(chosen)
        assert [(int(image.max()), index, label) for image, index, label in (some[n] for n in range(3))] == [
            (4, 0, 4), (1, 1, 1), (3, 2, 3),
        ]  # fmt: skip
        labels = labels_of(some.source)
        assert labels is not None
        assert labels.tolist() == [4, 1, 3]


def test_a_damaged_file_of_another_class_is_named(tmp_path: Path):
    write_image_folder(tmp_path, 6)
    path = tmp_path / "train" / "cat" / "2.png"
    source = torchvision.datasets.ImageFolder(tmp_path / "train")
    some = Subset(source, [5, 4, 1])
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"^image 1 of ImageFolder \\({path}\\) does not decode") as refused:
            IndexedImages(source, 3)[1]
        assert "\n" not in str(refused.value)
        with pytest.raises(InputError, match=f"image 2 of Subset \\({path}\\)"):
            IndexedImages(some, 3)[2]
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        IndexedImages(source, 3)[1]
    assert IndexedImages(source, 3)[0][2] == 0


def test_a_lazy_image_that_is_cut_is_named(tmp_path: Path):
    Image.fromarray(draw(0, 0, 64, 64)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with Image.open(tmp_path / "a.png") as lazy:
        assert "image 0 of Items does not decode (image file is truncated" in refusal((lazy, 1))


def test_errors_of_damage_are_told_from_mistakes_in_code():
    for error in (UnidentifiedImageError("bad"), OSError("bad"), EOFError(), Image.DecompressionBombError("bad")):
        assert "image 0 of Items does not decode" in refusal(error)
    for mistake in (KeyError("x"), TypeError("x"), ValueError("x"), ZeroDivisionError()):
        with pytest.raises(type(mistake)):
            IndexedImages(Items(mistake), 3)[0]


def error_of_a_worker(images: IndexedImages) -> InputError:
    try:
        next(iter(DataLoader(images, batch_size=1, num_workers=1)))
    except InputError as error:
        return error.with_traceback(None)  # whose frames would keep the loader's process waiting
    raise AssertionError("the worker raised nothing")


def test_the_line_of_a_worker_is_given_back(tmp_path: Path):
    write_image_folder(tmp_path, 4)
    path = tmp_path / "train" / "cat" / "0.png"
    path.write_bytes(b"")
    for source in (ImageFolder(tmp_path / "train"), torchvision.datasets.ImageFolder(tmp_path / "train")):
        images = IndexedImages(source, 3)
        with pytest.raises(InputError) as here:
            images[0]
        there = error_of_a_worker(images)
        assert str(there).count("\n") > 5
        assert worker_message(there) == worker_message(here.value) == str(here.value)
        assert str(path) in str(here.value)


def test_a_loader_makes_int64_of_index_and_label():
    loader = DataLoader(IndexedImages(Items((PIXELS, 2), PIXELS), 3), batch_size=2)
    images, index, label = next(iter(loader))
    assert (images.dtype, images.shape) == (torch.uint8, (2, 3, 6, 5))
    assert (index.dtype, index.tolist()) == (torch.int64, [0, 1])
    assert (label.dtype, label.tolist()) == (torch.int64, [2, -1])
