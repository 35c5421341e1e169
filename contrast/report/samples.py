"""Every sample's mean loss and positive score over training, out of pairs/: tolerant of what is missing or cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from contrast.records import read_object
from contrast.run_folder import RunFolder

__all__ = ["Samples", "losses_by_epoch", "read_samples"]

MOMENTS = ("loss_mean", "loss_std", "positive_mean", "positive_std")


@dataclass(frozen=True)
class Samples:
    """Samples that were seen in two epochs or more.

    Args:
        index: of the training samples.
        moments: by name, over epochs; NaN where a loss gives no losses of its own.
        flag: 0 none, 1 noisy, 2 faulty, of the last epoch that was kept.
        paths: each one's file, within the data's folder; empty where samples are not files or there are very many.
    """

    index: Int[np.ndarray, " n"]
    moments: dict[str, Float[np.ndarray, " n"]]
    flag: Int[np.ndarray, " n"]
    paths: tuple[str, ...] = ()


def read_samples(folder: RunFolder) -> Samples | None:
    """None where the run has kept no epochs yet."""
    try:
        kept = _tensors(folder.pairs / "all_epochs.safetensors")
        seen = kept["seen"]
        moments = {name: kept[name].astype(np.float64) for name in MOMENTS}
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    if seen.ndim != 1 or any(values.shape != seen.shape for values in moments.values()):
        return None
    index = np.flatnonzero(seen >= 2)
    if not len(index):
        return None
    paths = _paths(folder, len(seen))
    shown = tuple(paths[place] for place in index.tolist()) if paths else ()
    flag = _flags(folder, len(seen))[index]
    return Samples(index, {name: values[index] for name, values in moments.items()}, flag, shown)


def losses_by_epoch(folder: RunFolder, index: Sequence[int], numbering: str = "") -> dict[int, tuple[float, ...]]:
    """Samples' losses in the kept epochs, in order; without epochs that a sample has none of.

    Args:
        folder: the run folder.
        index: of the samples.
        numbering: what their numbers refer to; files of another numbering are left out.
    """
    found: dict[int, list[float]] = {each: [] for each in index}
    for path in sorted(folder.pairs.glob("epoch-*.safetensors")):
        try:
            losses, of = _tensors(path)["loss"], _numbering(path)
        except (OSError, SafetensorError, KeyError, ValueError):
            continue
        if of and numbering and of != numbering:
            continue
        for each in found:
            if losses.ndim == 1 and 0 <= each < len(losses) and np.isfinite(losses[each]):
                found[each].append(float(losses[each]))
    return {each: tuple(losses) for each, losses in found.items()}


def _tensors(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():  # nor a pipe or a device, which may have no end
        raise FileNotFoundError(path)
    return load_file(path)


def _paths(folder: RunFolder, count: int) -> list[str]:
    """The samples' files, of the numbering of ``all_epochs.safetensors``; empty where they are not known."""
    content = read_object(folder.pairs / "samples.json") or {}
    paths = content.get("paths")
    if not isinstance(paths, list) or len(paths) != count or not all(isinstance(path, str) for path in paths):
        return []
    return paths if content.get("numbering") == _numbering(folder.pairs / "all_epochs.safetensors") else []


def _numbering(path: Path) -> str:
    with safe_open(path, framework="numpy") as file:
        return str((file.metadata() or {}).get("numbering", ""))


def _flags(folder: RunFolder, count: int) -> Int[np.ndarray, " n"]:
    for path in sorted(folder.pairs.glob("epoch-*.safetensors"), reverse=True):
        try:
            flag = _tensors(path)["flag"]
        except (OSError, SafetensorError, KeyError, ValueError):
            continue
        if flag.shape == (count,):
            return flag.astype(np.int64)
    return np.zeros(count, dtype=np.int64)
