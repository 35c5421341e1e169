"""The loaders of a run's data."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from contrast.data import ArrayImages, Digits, ImageData, SimCLRViews
from contrast.errors import InputError
from contrast.evaluation import evaluate_knn, evaluate_probe
from contrast.evaluation.encoder import Encoder, fingerprint


@pytest.mark.parametrize(("workers", "training", "evaluating"), [(0, 0, 0), (2, 2, 2), (168, 2, 2)])
def test_no_more_workers_start_than_there_are_batches(workers: int, training: int, evaluating: int) -> None:
    views = SimCLRViews(size=8, blur=0.0)
    data = ImageData(Digits(), views, Digits(train=False), 100, workers, channels=1, limit=250)
    assert data.train_dataloader().num_workers == training
    assert data.evaluation_loader("test").num_workers == evaluating
    assert data.evaluation_loader("train", limit=5).num_workers == min(workers, 1)


def labelled(folder: Path, numbers: list[int]) -> ImageData:
    """Twelve images of each class, whose brightness tells the class; classes numbered as given."""
    random = np.random.default_rng(0)
    place = np.arange(12 * len(numbers)) % len(numbers)
    base = (place * 200 // max(1, len(numbers) - 1))[:, None, None]
    np.savez(
        folder / "a.npz",
        images=(base + random.integers(0, 50, (len(place), 8, 8))).astype(np.uint8),
        labels=np.array(numbers)[place],
    )
    images = ArrayImages(folder / "a.npz")
    return ImageData(images, SimCLRViews(size=8), images, 4, 0, channels=1)


@pytest.mark.parametrize("numbers", [[0, 1, 2], [7, 1_000_000, 100_000_000], [5, 3, 2**40]])
def test_classes_are_counted_not_numbered(numbers: list[int], tmp_path: Path) -> None:
    data = labelled(tmp_path, numbers)
    assert data.classes == 3
    assert data.class_numbers.tolist() == sorted(numbers)
    net = torch.nn.Flatten()
    encoder = Encoder(net, 64, (1, 8, 8), data.standardisation, fingerprint(net), {})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu = torch.device("cpu")
    found = evaluate_knn(encoder, data, tmp_path / "features", cpu, 5)
    assert found.interval.mean == 1
    probed = evaluate_probe(encoder, data, tmp_path / "features", cpu, [0], fraction=1.0)
    assert probed.interval.mean == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_labels_become_places_among_the_classes(tmp_path: Path) -> None:
    data = labelled(tmp_path, [7, 1_000_000, 9])
    assert data.consecutive(torch.tensor([9, -1, 1_000_000, 7])).tolist() == [1, -1, 2, 0]
    with pytest.raises(InputError, match="no sample of class 8"):
        data.consecutive(torch.tensor([7, 8]))


def test_mean_and_deviation_are_measured_from_a_bounded_share(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (700, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    source = ArrayImages(tmp_path / "a.npz", labels=None)

    def made(seed: int, limit: int | None = None) -> ImageData:
        return ImageData(source, SimCLRViews(size=8), batch_size=2, seed=seed, limit=limit)

    few = made(0, limit=100)
    pixels = few.train_set.source
    values = np.stack([pixels[place][0].numpy() for place in range(100)]) / 255  # type: ignore[index]
    mean, std = values.mean(axis=(0, 2, 3)), values.std(axis=(0, 2, 3))
    assert few.standardisation.mean == tuple(float(f"{value:.4g}") for value in mean)
    assert few.standardisation.std == tuple(float(f"{value:.4g}") for value in std)
    assert made(0).measured() == made(0).measured() != made(1).measured()
    assert made(0).train_statistics["samples"] == 512
    given = ImageData(source, SimCLRViews(size=8), batch_size=2, mean=[0.5], std=[0.25])
    assert given.measured() == {}
    with pytest.raises(InputError, match="go together"):
        ImageData(source, SimCLRViews(size=8), batch_size=2, mean=[0.5])


def test_looking_at_the_input_draws_no_number_of_the_run(tmp_path: Path) -> None:
    class Noisy(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 9

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.rand(3, 4, 4)

    data = ImageData(Noisy(), SimCLRViews(size=4), batch_size=2)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    data.input_statistics()
    assert torch.equal(torch.rand(3), expected)
