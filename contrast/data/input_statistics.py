"""Input statistics of a few hundred raw samples: range, mean, deviation, duplicates, constant samples and channels.

They are computed once, when a run starts, from the samples before any view is made: images as uint8 with the run's
channels, series as float32. `contrast.doctor` evaluates them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from contrast.data.indexed import IndexedSamples
from contrast.randomness import Purpose, permutation

__all__ = ["LOOKED_AT", "LOOKED_AT_IN_TEST", "statistics_of"]

LOOKED_AT = 512
"""Largest number of training samples to read; mean and std of images are measured from them."""
LOOKED_AT_IN_TEST = 128


def statistics_of(samples: IndexedSamples, seed: int, limit: int = LOOKED_AT) -> dict[str, Any]:
    """Statistics of at most `limit` samples, as JSON.

    ``mean = mean_i m_i`` and ``std² = mean_i (s_i² + (m_i − mean)²)``

    m_i and s_i are the mean and the deviation of sample i in one channel. Each sample has the same weight, whatever its
    size. Values of integer samples are divided by 255. If there are more than `limit` samples, the first `limit` of a
    permutation by the seed are read.

    Args:
        samples: a training or a test set.
        seed: random seed for the choice of samples.
        limit: largest number of samples to read.

    Returns:
        A dictionary. ``samples`` is the number of samples read, ``of`` the number of samples in the set. ``type`` is
        the type of the first raw sample, ``shape`` the most frequent shape. ``distinct`` is the number of distinct
        samples by content, ``constant`` the number of samples that hold only one value. ``mean``, ``std``, ``lowest``,
        ``highest`` and ``within`` (the mean deviation inside a sample) are lists with one number per channel.
        ``roughness`` is the mean absolute difference of neighbours along the last axis and along the channels, in
        deviations.

    Raises:
        InputError: for a sample that cannot be read.
    """
    from lightning.pytorch.utilities.seed import isolate_rng  # imported here: it takes a second

    seen: set[bytes] = set()
    shapes: Counter[tuple[int, ...]] = Counter()
    constant, rows, rough = 0, [], []
    with isolate_rng():  # a data set may draw random numbers; the run's random state must not depend on that
        raw = _type_of_first(samples)
        chosen = _sampled_indices(len(samples), limit, seed)
        for sample in _read(samples, chosen):
            shapes[tuple(sample.shape)] += 1
            seen.add(hashlib.sha256(str(tuple(sample.shape)).encode() + sample.contiguous().numpy().tobytes()).digest())
            constant += int(bool((sample == sample.flatten()[0]).all()))
            values = sample.double().div(1 if sample.is_floating_point() else 255).flatten(1)
            rows.append(torch.stack(_moments(values)))
            rough.append(_roughness(values))
    mean, lowest, highest, within = torch.stack(rows).unbind(1)
    centre = mean.mean(0)
    variance = (within**2 + (mean - centre) ** 2).mean(0)
    return {
        "samples": len(chosen),
        "of": len(samples),
        "type": raw,
        "shape": list(shapes.most_common(1)[0][0]),
        "distinct": len(seen),
        "constant": constant,
        "mean": centre.tolist(),
        "std": variance.sqrt().tolist(),
        "lowest": lowest.amin(0).tolist(),
        "highest": highest.amax(0).tolist(),
        "within": within.mean(0).tolist(),
        "roughness": np.mean(rough, axis=0).tolist(),
    }


def _sampled_indices(count: int, limit: int, seed: int) -> list[int]:
    if count <= limit:
        return list(range(count))
    return sorted(permutation(count, seed, Purpose.LOOKED_AT)[:limit].tolist())


def _read(samples: IndexedSamples, chosen: list[int]) -> Iterator[Tensor]:
    for place in tqdm(chosen, "measuring the input", delay=2, leave=False):
        yield samples[place][0]


def _moments(values: Tensor) -> list[Tensor]:
    """Mean, smallest value, largest value and standard deviation of each channel."""
    return [values.mean(1), values.amin(1), values.amax(1), values.std(1, correction=0)]


def _roughness(values: Tensor) -> tuple[float, float]:
    deviation = float(values.std(correction=0)) or 1.0
    along = [values.diff(dim=axis) for axis in (1, 0)]
    found = [float(each.abs().mean()) / deviation if each.numel() else 0.0 for each in along]
    return found[0], found[1]


def _type_of_first(samples: IndexedSamples) -> str:
    """Type of the raw samples in words: "uint8 array (32, 32, 3)", "image of mode RGB"."""
    source: Any = samples.source
    item = source[0]
    first = item[0] if isinstance(item, tuple | list) and len(item) == 2 else item
    while isinstance(source, Subset):
        source = source.dataset
    stored = getattr(source, "stored_type", None)
    if isinstance(stored, str):
        return stored
    if isinstance(first, Image.Image):
        return f"image of mode {first.mode}"
    if isinstance(first, np.ndarray):
        return f"{first.dtype} array {first.shape}"
    if isinstance(first, Tensor):
        return f"{str(first.dtype).removeprefix('torch.')} tensor {tuple(first.shape)}"
    return type(first).__name__
