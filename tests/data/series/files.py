"""Small files of the real formats, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

VOWELS = """\
# A comment, then the header as the archives write it.
@problemName Vowels
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true 1 10 2

@data
1.5,2.5,-3e-1:4,5,6:10
0.25,0.5:1.0,2.0:1
7,8,9,10:11,12,13,14:2
"""


def write_ts(path: Path, text: str = VOWELS) -> Path:
    path.write_text(text)
    return path


def sines(count: int, channels: int, steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Series of two classes, slow and fast sines with a phase of their own, and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    time = np.linspace(0, 1, steps)
    rate = np.where(labels == 0, 2, 5)[:, None, None]
    phase = random.random((count, channels, 1))
    noise = 0.1 * random.standard_normal((count, channels, steps))
    return np.sin(2 * np.pi * (rate * time + phase)) + noise, labels


def write_sines(path: Path, count: int = 64, channels: int = 2, steps: int = 20, seed: int = 0) -> Path:
    series, labels = sines(count, channels, steps, seed)
    np.savez(path, series=series, labels=labels)
    return path
