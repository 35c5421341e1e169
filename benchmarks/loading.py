"""A loader's epoch over a folder of JPEGs, against the same folder from its packed cache."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch.utils.data import DataLoader, Subset
from torchvision.transforms.v2 import functional as transforms

from benchmarks.command import run_part
from benchmarks.timing import Row, interleaved
from contrast.data import ImageData, ImageFolder, SimCLRViews

IMAGES, HEIGHT, WIDTH = 256, 256, 320
LARGE = 64, 768, 1024
SIZE, BATCH = 224, 64
EPOCH, LARGE_EPOCH = 4096, 1024


def measure() -> Iterator[Row]:
    torch.set_num_threads(1)  # as a worker has
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        _write(small, IMAGES, HEIGHT, WIDTH)
        _write(large, *LARGE)
        for workers in (0, 2):
            yield _row(small, None, "device", workers, f"JPEGs of {HEIGHT} x {WIDTH}, whole images")
            yield _row(small, None, "workers", workers, f"JPEGs of {HEIGHT} x {WIDTH}, two crops of {SIZE}")
            what = f"JPEGs of {LARGE[1]} x {LARGE[2]}, cache_size 256, two crops of {SIZE}"
            yield _row(large, 256, "workers", workers, what)


def _row(folder: Path, cache_size: int | None, views_in: Literal["device", "workers"], workers: int, what: str) -> Row:
    cache = folder.parent / "images.pack"
    files = ImageFolder(folder)
    packed = ImageFolder(folder, cache=cache, cache_size=cache_size)
    samples = EPOCH if cache_size is None else LARGE_EPOCH
    ways = {
        "the folder's epoch": _epoch(files, views_in, workers, samples),
        "its packed cache's": _epoch(packed, views_in, workers, samples),
    }
    times = interleaved(ways, repetitions=4)  # the warm-up is the first epoch, which verifies every image
    cache.unlink()
    # Where crops are made in the workers, they cost the same on both sides, and the ratio has no target of its own.
    target = 3.0 if views_in == "device" or cache_size is not None else None
    return times.faster("loading", f"{what}, {workers} workers", "its packed cache's", "the folder's epoch", target)


def _epoch(
    images: ImageFolder, views_in: Literal["device", "workers"], workers: int, samples: int
) -> Callable[[], None]:
    # An epoch of a few images would time how workers start, and nothing else.
    epoch = Subset(images, [*range(len(images))] * (samples // len(images))) if workers else images
    data = ImageData(epoch, SimCLRViews(size=SIZE), batch_size=BATCH, workers=workers, views_in=views_in)
    return partial(_read, data.train_dataloader())


def _read(loader: DataLoader[object]) -> None:
    for _ in loader:
        pass


def _write(folder: Path, count: int, height: int, width: int) -> None:
    """Noise at three scales, over the brightness of a sky: a photograph's size at quality 90, and no two alike."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        picture = torch.zeros(3, height, width)
        for scale, strength in ((64, 0.25), (16, 0.12), (4, 0.05)):
            noise = torch.randn(3, height // scale + 1, width // scale + 1, generator=generator)
            picture += strength * transforms.resize(noise, [height, width], antialias=True)
        pixels = (picture + 0.5).clamp(0, 1)
        transforms.to_pil_image(pixels).save(folder / f"{number}.jpg", quality=90)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    raise SystemExit(run_part("loading", measure))
