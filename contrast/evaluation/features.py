"""Compute and cache features of a labelled data set; the cache key covers everything that the features depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from contrast.checks import checked
from contrast.data import TrainingData
from contrast.data.batch import LabelledBatch
from contrast.data.sources import worker_message
from contrast.errors import InputError
from contrast.evaluation.encoder import Encoder, encode
from contrast.runs.files import whole_file

__all__ = ["Features", "batches", "cache_key", "cached_features", "extract", "features_of"]

_log = logging.getLogger(__name__)
_UNLABELLED = "sample {} has no label: evaluate on a labelled set"


@dataclass(frozen=True, eq=False)
class Features:
    """Features of a labelled data set, one row per sample, in the order of the data set.

    Attributes:
        features: encoder output, (n, d).
        labels: class of each sample, (n,).
        index: number of each sample in the data set, (n,).
    """

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    index: Int[Tensor, " n"]

    def to(self, device: torch.device) -> Features:
        """Copy to another device."""
        return Features(self.features.to(device), self.labels.to(device), self.index.to(device))


@checked
def extract(
    encoder: Encoder,
    loader: DataLoader[LabelledBatch],
    device: torch.device,
    progress: str | None = None,
    labelled: bool = True,
) -> Features:
    """Compute features of all samples of a loader; the result is on the CPU, the encoder is moved to `device`.

    Args:
        encoder: computes the features.
        loader: yields samples with labels.
        device: device on which the encoder runs.
        progress: label of the progress bar on stderr; None shows no bar.
        labelled: whether a sample without a label is an error. If False, its label is -1.

    Raises:
        InputError: as `batches`.
    """
    encoder.backbone.to(device)
    rows, labels, index = [], [], []
    for batch in batches(loader, progress, labelled):
        rows.append(encode(encoder, batch.inputs.to(device, non_blocking=True)).cpu())
        labels.append(batch.label.cpu())
        index.append(batch.index.cpu())
    return Features(torch.cat(rows), torch.cat(labels), torch.cat(index))


def batches(loader: DataLoader[LabelledBatch], progress: str | None, labelled: bool = True) -> Iterator[LabelledBatch]:
    """Iterate over all batches of a loader; at least one batch is required.

    Args:
        loader: yields the batches.
        progress: label of the progress bar on stderr; None shows no bar.
        labelled: whether a sample without a label is an error.

    Raises:
        InputError: where the loader yields nothing, a sample has no label, or a worker of the loader raised it.
    """
    empty = True
    try:
        for batch in tqdm(loader, desc=progress, disable=progress is None, leave=False):
            empty = False
            if labelled and bool((batch.label < 0).any()):
                raise InputError(_UNLABELLED.format(int(batch.index[batch.label < 0][0])))
            yield batch
    except InputError as error:
        raise InputError(worker_message(error)) from error
    if empty:
        raise InputError("the data set to evaluate on is empty: check data.train and data.test")


@checked
def features_of(
    encoder: Encoder,
    data: TrainingData,
    split: Literal["train", "test"],
    folder: str | Path,
    device: torch.device,
    labelled: bool = True,
    only: Int[Tensor, " m"] | None = None,
) -> Features:
    """Features of the train or test set of a data module, from the cache if they are there.

    Args:
        encoder: computes the features.
        data: the data module.
        split: which of its sets.
        folder: folder of cached features.
        device: device on which the encoder runs, if the cache has no features.
        labelled: whether a sample without a label is an error.
        only: positions of the samples to use, ascending, int64 (m,); None uses all.
    """
    about = data.key(split)
    if only is not None and (Path(folder) / _file_name(cache_key(encoder, about))).is_file():
        whole = features_of(encoder, data, split, folder, device, labelled)
        return Features(whole.features[only], whole.labels[only], whole.index[only])

    def compute() -> Features:
        loader = data.evaluation_loader(split, only=only)
        found = extract(encoder, loader, device, f"features of {split}", labelled)
        return found if only is None else Features(found.features, found.labels, only[found.index])

    if only is not None:
        about = {**about, "only": hashlib.sha256(only.numpy().tobytes()).hexdigest()}
    found = cached_features(folder, cache_key(encoder, about), compute)
    if labelled and bool((found.labels < 0).any()):  # cached by a call with labelled=False
        raise InputError(_UNLABELLED.format(int(found.index[found.labels < 0][0])))
    return replace(found, labels=data.consecutive(found.labels)) if labelled else found


@checked
def cache_key(encoder: Encoder, data: Mapping[str, Any]) -> str:
    """Cache key of features: sha256 of the encoder's weights and standardisation, the data, and the data's transform.

    Args:
        encoder: computes the features. Its description only says where it came from and is not part of the key.
        data: data set, its arguments and the transform of its samples, as JSON.
    """
    parts = {
        "encoder": encoder.fingerprint,
        "input_shape": encoder.input_shape,
        "mean": encoder.standardisation.mean,
        "std": encoder.standardisation.std,
        "data": data,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@checked
def cached_features(folder: str | Path, key: str, compute: Callable[[], Features]) -> Features:
    """Load features from the cache, or compute and cache them.

    A cache file holds only tensors, nothing executable. It is written atomically. A file that is damaged, or belongs to
    another key, is computed again and replaced.

    Args:
        folder: folder of the cache files; created if missing.
        key: key from `cache_key`.
        compute: computes the features; called where there is no valid file.

    Raises:
        InputError: where a feature is not finite. Such features are not cached.
    """
    path = Path(folder) / _file_name(key)
    if path.is_file():
        try:
            return _read(path, key)
        except (SafetensorError, ValueError, OSError) as error:
            _log.warning("features in %s cannot be used (%s); computing them again", path, error)
    found = compute()
    if not bool(found.features.isfinite().all()):  # check before caching
        raise InputError("the features hold NaN or infinity: check the checkpoint they were computed with")
    tensors = {"features": found.features, "labels": found.labels, "index": found.index}
    with whole_file(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata={"key": key})
    return found


def _file_name(key: str) -> str:
    return f"{key[:32]}.safetensors"


def _read(path: Path, key: str) -> Features:
    with safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("key") != key:
            raise ValueError("it was written for another key")
        if set(file.keys()) != {"features", "labels", "index"}:
            raise ValueError(f"it holds {sorted(file.keys())}")
        features, labels, index = (file.get_tensor(name) for name in ("features", "labels", "index"))
    if features.dim() != 2 or labels.shape != features.shape[:1] or index.shape != features.shape[:1]:
        raise ValueError("its columns differ in length")
    return Features(features, labels, index)
