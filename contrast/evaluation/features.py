"""Features of a labelled set: computed once, kept in a file under a key of all that they depend on."""

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
    """One row of features a sample, in the order of the data set.

    Args:
        features: what the encoder made of each sample.
        labels: its class.
        index: which sample of the data set it is.
    """

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]
    index: Int[Tensor, " n"]

    def to(self, device: torch.device) -> Features:
        """The same on another device."""
        return Features(self.features.to(device), self.labels.to(device), self.index.to(device))


@checked
def extract(
    encoder: Encoder,
    loader: DataLoader[LabelledBatch],
    device: torch.device,
    progress: str | None = None,
    labelled: bool = True,
) -> Features:
    """Features of all that a loader yields, on the CPU; the encoder is moved to `device`.

    Args:
        encoder: what computes them.
        loader: samples with labels.
        device: where the encoder runs.
        progress: what the bar on stderr says; None shows none.
        labelled: whether a sample without a label is refused; else its label is -1.

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
    """All batches of a set, one at least.

    Args:
        loader: where they come from.
        progress: what the bar on stderr says; None shows none.
        labelled: whether a sample without a label is refused.

    Raises:
        InputError: where the loader yields nothing or a sample without a label, or what its workers refused.
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
    """Features of one set of a data module, from the folder's cache if they are there.

    Args:
        encoder: what computes them.
        data: the data module.
        split: which of its sets.
        folder: where the cached features are.
        device: where the encoder runs, if it has to.
        labelled: whether a sample without a label is refused.
        only: positions of the samples to take, ascending; None takes all.
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
    if labelled and bool((found.labels < 0).any()):  # kept by an evaluation that asked for none
        raise InputError(_UNLABELLED.format(int(found.index[found.labels < 0][0])))
    return replace(found, labels=data.consecutive(found.labels)) if labelled else found


@checked
def cache_key(encoder: Encoder, data: Mapping[str, Any]) -> str:
    """sha256 of what features depend on: the encoder's weights and standardisation, the data and their transform.

    Args:
        encoder: what computes the features; its description says where it came from and is no part of the key.
        data: the data set, its arguments and the transform of its samples, as JSON.
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
    """What `compute` returns, from the folder's file of this key if there is one.

    The file holds tensors and nothing that could run. It appears whole or not at all; one that is damaged or of
    another key is computed again and replaced.

    Args:
        folder: where the files are; made if missing.
        key: from `cache_key`.
        compute: called where there is no good file.

    Raises:
        InputError: for features that are not finite, which are not kept.
    """
    path = Path(folder) / _file_name(key)
    if path.is_file():
        try:
            return _read(path, key)
        except (SafetensorError, ValueError, OSError) as error:
            _log.warning("features in %s cannot be used (%s); computing them again", path, error)
    found = compute()
    if not bool(found.features.isfinite().all()):  # before they are kept
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
