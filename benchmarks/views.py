"""SimCLR's views of one core: made in batches here, image by image by lightly.

Both sides have the same images in memory, make two views of each, and standardise them; one thread. lightly transforms
Pillow images one by one, as a worker of its loader does, without the stacking into a batch. What is ours starts from a
uint8 batch, as training on images of one size does, or, for images of different sizes, crops each image as a worker
does, stacks the crops and finishes the batch. Freed memory is kept on both sides, as in a run of ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from benchmarks.command import run_part
from benchmarks.timing import Row, Times, interleaved
from contrast.data.decode import to_uint8
from contrast.data.standardisation import Standardisation
from contrast.data.views import SimCLRViews
from contrast.runtime import keep_freed_memory

_PEER = "lightly's SimCLRTransform"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # lightly's default


@dataclass(frozen=True)
class _Case:
    """Sizes and recipe of a row; with `by_sample`, height and width of the images differ and crops are a worker's."""

    size: int
    height: int
    width: int
    count: int
    strength: float
    blur: float
    target: float | None
    by_sample: bool = False
    repetitions: int = 12

    @property
    def what(self) -> str:
        blur = f"blur {self.blur:g}" if self.blur else "no blur"
        crops = "crops a sample, " if self.by_sample else ""
        return f"{self.size} pixels of {self.width}x{self.height}, {crops}strength {self.strength:g}, {blur}"


_CASES = (
    _Case(32, 32, 32, 256, strength=0.5, blur=0.0, target=12),
    _Case(32, 32, 32, 256, strength=1.0, blur=0.5, target=None),
    _Case(96, 96, 96, 128, strength=1.0, blur=0.5, target=5),
    _Case(96, 96, 96, 128, strength=0.5, blur=0.0, target=None),
    _Case(224, 256, 256, 32, strength=1.0, blur=0.5, target=2),
    _Case(224, 256, 320, 32, strength=1.0, blur=0.5, target=2, by_sample=True),
)


def measure() -> Iterator[Row]:
    torch.set_num_threads(1)
    keep_freed_memory()  # as a run does
    for case in _CASES:
        with torch.no_grad():
            yield _row(case)


def _row(case: _Case) -> Row:
    images = natural_images(case.count, case.height, case.width)
    times = interleaved({"ours": _ours(case, images), _PEER: _theirs(case, images)}, case.repetitions, warm_up=2)
    row = times.faster("views", case.what, "ours", _PEER, case.target)
    return replace(
        row, note=f"{_rate(times, 'ours', case)} and {_rate(times, _PEER, case)} views/s, {case.count} images"
    )


def _rate(times: Times, name: str, case: _Case) -> str:
    return f"{1e3 * 2 * case.count / times.milliseconds(name):,.0f}"


def _ours(case: _Case, images: Tensor) -> Callable[[], object]:
    views = SimCLRViews(case.size, jitter_strength=case.strength, blur=case.blur)
    standardised, epochs = Standardisation(_MEAN, _STD), iter(range(1_000_000))
    index = torch.arange(case.count)

    def batch() -> object:
        return [standardised(view) for view in views(images, index, next(epochs), seed=0)]

    decoded = [to_uint8(picture, channels=3) for picture in _pictures(images)]  # as a worker has it from a file

    def by_sample() -> object:
        epoch = next(epochs)
        crops = torch.stack([views.crop_sample(image, row, epoch, seed=0) for row, image in enumerate(decoded)])
        return [standardised(view) for view in views.finish(crops.unbind(1), index, epoch, seed=0)]

    return by_sample if case.by_sample else batch


def _theirs(case: _Case, images: Tensor) -> Callable[[], object]:
    with warnings.catch_warnings():  # of names that lightly still imports
        warnings.simplefilter("ignore")
        from lightly.transforms import SimCLRTransform
    transform = SimCLRTransform(case.size, cj_strength=case.strength, gaussian_blur=case.blur)
    pictures = _pictures(images)
    return lambda: [transform(picture) for picture in pictures]


def _pictures(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def natural_images(count: int, height: int, width: int) -> Tensor:
    """Noise whose amplitude falls as one over the frequency, as that of photographs does, its channels correlated."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, height, width, generator=generator)
    frequency = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width) ** 2).sqrt().clamp_min(1 / width)
    waves = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
    waves = waves + 2 * waves.mean(1, keepdim=True)
    waves = waves / waves.flatten(1).std(1)[:, None, None, None]
    return (128 + 56 * waves).clamp(0, 255).to(torch.uint8)


if __name__ == "__main__":
    raise SystemExit(run_part("views", measure))
