"""A batch in one call is the batch of its samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from contrast.data import ArrayImages, Digits, ImageData, SimCLRViews
from contrast.data.batch import Batch
from contrast.data.image_data import TrainingImages
from contrast.data.indexed import IndexedImages

_RANDOM = np.random.default_rng(0)
_ARRAYS = {
    "grey": _RANDOM.integers(0, 256, (9, 6, 5), dtype=np.uint8),
    "colour last": _RANDOM.integers(0, 256, (9, 6, 5, 3), dtype=np.uint8),
    "colour first": _RANDOM.integers(0, 256, (9, 3, 6, 5), dtype=np.uint8),
    "floats": _RANDOM.random((9, 6, 5, 3)).astype(np.float32),
    "wide": _RANDOM.integers(0, 65536, (9, 6, 5), dtype=np.uint16),
    "one band": _RANDOM.integers(0, 256, (9, 6, 5, 1), dtype=np.uint8),
}


def _of_array(folder: Path, array: Any, kind: str) -> Dataset[Any]:
    if kind == "npy":
        np.save(folder / "images.npy", array)
        return ArrayImages(folder / "images.npy")
    np.savez(folder / "images.npz", images=array)
    return ArrayImages(folder / "images.npz", labels=None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("form", _ARRAYS)
def test_a_batch_of_an_array_is_its_samples(tmp_path: Path, form: str, kind: str, channels: int) -> None:
    images = IndexedImages(_of_array(tmp_path, _ARRAYS[form], kind), channels)
    for chosen in (images, images.subset([7, 2, 5, 0]).subset([3, 1, 2])):
        _compare(chosen, [2, 0, 1])


def test_a_batch_of_digits_is_its_samples() -> None:
    images = IndexedImages(Digits(train=False), channels=1)
    _compare(images, [300, 0, 17])
    _compare(images.subset(torch.arange(350, 10, -7)), [3, 0, 17, 3])


def _compare(images: IndexedImages, index: list[int]) -> None:
    samples = TrainingImages(images, SimCLRViews(size=4), "device", seed=0)
    places = [(0, each) for each in index]
    batch = samples.__getitems__(places)
    one_by_one = [samples[place] for place in places]
    if not isinstance(batch, Batch):
        batch = Batch(torch.stack([image for image, _ in batch]), torch.tensor([at for _, at in batch]))
    assert torch.equal(batch.inputs, torch.stack([image for image, _ in one_by_one]))
    assert batch.inputs.dtype == torch.uint8
    assert batch.inputs.is_contiguous()
    assert batch.index.tolist() == [at for _, at in one_by_one] == index


def test_a_set_in_memory_is_read_in_one_call() -> None:
    images = IndexedImages(Digits(train=False), channels=1)
    assert isinstance(TrainingImages(images, SimCLRViews(size=8), "device", seed=0).__getitems__([(0, 1)]), Batch)
    colour = IndexedImages(Digits(train=False), channels=3)  # grey is repeated sample by sample
    assert not isinstance(TrainingImages(colour, SimCLRViews(size=8), "device", seed=0).__getitems__([(0, 1)]), Batch)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_hands_out_what_single_samples_would_be(workers: int) -> None:
    data = ImageData(Digits(train=True), SimCLRViews(size=8), batch_size=64, channels=1, workers=workers, limit=200)
    batches = list(data.train_dataloader())
    assert len(batches) == 3
    for batch in batches:
        expected = torch.stack([data.train_set[at][0] for at in batch.index.tolist()])
        assert torch.equal(batch.inputs, expected)


def test_crops_made_in_workers_are_made_sample_by_sample() -> None:
    images = IndexedImages(Digits(train=False), channels=1)
    samples = TrainingImages(images, SimCLRViews(size=8), "workers", seed=0)
    batch = samples.__getitems__([(0, 3), (0, 4)])
    assert not isinstance(batch, Batch)
    assert batch[0][0].shape == (2, 1, 8, 8)
