"""Data set fingerprint: number of samples, their names, and checksums of their contents and labels."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset
from tqdm import tqdm

from contrast.data.indexed import IndexedSamples
from contrast.data.labels import listed_labels
from contrast.data.sources import PATHS, Content, HasContent, Source, array_rows, file_states

__all__ = ["DataIdentity", "Matching", "appended", "identity_of", "match_samples", "names_of", "root_of"]

_NOT_READ = "not computed: the data set would have to be read once"


@dataclass(frozen=True, eq=False)
class DataIdentity:
    """Fingerprint that distinguishes one data set from another.

    Attributes:
        samples: number of samples.
        names: checksum of the samples' names in order; None if samples have no names, as in arrays.
        labels: checksum of the labels. None if there are none, or if computing it would need to read every sample.
        contents: checksum of the samples. None if computing it would need to read every sample.
        contents_of: description of the bytes that `contents` covers.
        name_keys: the first 8 bytes of each name's checksum, (n,) int64; None if samples have no names.
    """

    samples: int
    names: str | None
    labels: str | None
    contents: str | None
    contents_of: str
    name_keys: Int64[Tensor, " n"] | None

    @property
    def numbering(self) -> str:
        """Identifier of the sample numbering: two data sets with the same identifier number the same samples alike."""
        return f"{self.samples}-{(self.names or self.contents or 'unnamed')[:12]}"

    def difference(self, now: DataIdentity) -> str | None:
        """Difference between this data set and a later one, with both values; None if there is no difference.

        Checksums are compared only if both are known and cover the same bytes.

        Args:
            now: the later data set, called "now" in the text.
        """
        if self.samples != now.samples:
            return f"{self.samples:,} samples then, {now.samples:,} now"
        names = ("checksum of the names", self.names, now.names)
        contents = (f"checksum of {now.contents_of}", self.contents, now.contents)
        labels = ("checksum of the labels", self.labels, now.labels)
        for what, old, new in (names, *([contents] if self.contents_of == now.contents_of else []), labels):
            if old is not None and new is not None and old != new:
                return f"{what} {old[:8]} then, {new[:8]} now"
        return None

    def state(self) -> dict[str, Any]:
        """State of the fingerprint for a checkpoint."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Any) -> DataIdentity | None:
        """Restore the fingerprint from a checkpoint's state; None if `state` is not valid."""
        try:
            found = cls(**{name: state[name] for name in cls.__dataclass_fields__})
        except (LookupError, TypeError):
            return None
        keys = found.name_keys
        whole = isinstance(found.samples, int) and found.samples >= 0
        texts = (found.names, found.labels, found.contents)
        named = keys is None or (isinstance(keys, Tensor) and keys.shape == (found.samples,))
        return found if whole and named and all(text is None or isinstance(text, str) for text in texts) else None


class Matching(NamedTuple):
    """Correspondence between the samples of two data sets.

    Attributes:
        old_of: for each sample of the new set its number in the old set, (m,) int64; -1 for an added sample.
        new_of: for each sample of the old set its number in the new set, (n,) int64; -1 for a removed sample.
    """

    old_of: Int64[Tensor, " m"]
    new_of: Int64[Tensor, " n"]


def identity_of(samples: IndexedSamples, thorough: bool, first: int | None = None) -> DataIdentity:
    """Compute the fingerprint of a data set.

    Arrays in memory and in ``.npz`` and ``.npy`` files are included with all their bytes. Image files are included by
    name and size and, if `thorough`, by modification time; `ImageFolder(full_checksum=True)` includes all their bytes
    instead. For a data set of any other class, every sample is read once if `thorough`; if not, its contents are left
    out.

    Args:
        samples: the data set.
        thorough: whether to cover all content, as a cache key must. Without it, the result is the same on another
            machine, and at most arrays are read.
        first: number of leading samples to include; None includes all.
    """
    index = range(len(samples) if first is None else first)
    names, labels = names_of(samples.source), listed_labels(samples.source)
    content = _content(samples.source, index, thorough)
    if content is None:
        content = Content("every sample, read once", _read(samples, index)) if thorough else None
    return DataIdentity(
        samples=len(index),
        names=None
        if names is None
        else _checksum(f"{name}\0".encode(errors="surrogateescape") for name in names[: len(index)]),
        labels=None if labels is None or bool((labels < 0).all()) else _checksum([labels[: len(index)].numpy()]),
        contents=None if content is None else _checksum(content.parts),
        contents_of=_NOT_READ if content is None else content.words,
        name_keys=None if names is None else _keys(names[: len(index)]),
    )


def match_samples(old: DataIdentity, new: DataIdentity) -> Matching | None:
    """Match the samples of two data sets by name; None if a set has no names or has a name twice.

    Args:
        old: fingerprint of the old data set.
        new: fingerprint of the new data set.
    """
    if old.name_keys is None or new.name_keys is None:
        return None
    place = {key: number for number, key in enumerate(old.name_keys.tolist())}
    keys = new.name_keys.tolist()
    if len(place) < old.samples or len(set(keys)) < new.samples:
        return None
    old_of = torch.tensor([place.get(key, -1) for key in keys], dtype=torch.int64)
    return Matching(old_of, _inverse(old_of, old.samples))


def appended(old: int, new: int) -> Matching:
    """Matching for a new set that begins with all samples of the old set.

    Args:
        old: number of samples of the old set.
        new: number of samples of the new set.
    """
    numbers = torch.arange(new)
    old_of = torch.where(numbers < old, numbers, -1)
    return Matching(old_of, _inverse(old_of, old))


def names_of(source: object) -> list[str] | None:
    """File name of each sample, relative to the data set's folder and with ``/``; None if samples are not files.

    Paths are taken from the attributes of torchvision's and our data set classes, also inside Subset and ConcatDataset.
    """
    if isinstance(source, Subset):
        names = names_of(source.dataset)
        return None if names is None else [names[place] for place in source.indices]
    if isinstance(source, ConcatDataset):
        parts = [names_of(part) for part in source.datasets]
        known = [names for names in parts if names is not None]
        whole = len(known) == len(parts)
        return [f"{part}/{name}" for part, names in enumerate(known) for name in names] if whole else None
    paths = _paths(source)
    if paths is None:
        return None
    root = _root(source)
    return [_relative(path, root) for path in paths]


def root_of(source: object) -> str | None:
    """Folder or file that a data set was created from; None for data in memory."""
    root = _root(source)
    return None if root is None else _as_text(root)


def _root(source: object) -> str | None:
    while isinstance(source, Subset):
        source = source.dataset
    if isinstance(source, ConcatDataset):
        roots = [_root(part) for part in source.datasets]
        return ", ".join(root for root in roots if root is not None) or None
    for name in ("root", "path"):
        given = getattr(source, name, None)
        if isinstance(given, str | os.PathLike):
            return os.fspath(given)
    return None


def _content(source: object, index: Sequence[int], times: bool) -> Content | None:
    """Content of these samples that is available without reading each sample; None if there is none."""
    if type(source) is Subset:
        chosen = source.indices
        return _content(source.dataset, [chosen[place] for place in index], times)
    if type(source) is ConcatDataset:
        return _content_of_parts(source, index, times)
    # An inherited `content` does not notice if the subclass returns other samples than its base class.
    if isinstance(source, HasContent) and "content" in vars(type(source)):
        return source.content(index, times)
    if type(source) is TensorDataset:
        arrays = [tensor.numpy(force=True) for tensor in source.tensors]  # all tensors, labels included
        return Content("all bytes of the tensors", (part for array in arrays for part in array_rows(array, index)))
    if not type(source).__module__.startswith("torchvision.datasets.") or _is_transformed(source):
        return None
    if listed_labels(source) is None:
        return None
    data = getattr(source, "data", None)
    array = data.numpy(force=True) if isinstance(data, Tensor) else data
    if isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and len(array) == len(cast(Source, source)):
        return Content("all bytes of the arrays", array_rows(array, index))
    paths = _paths(source)
    return None if paths is None else file_states([paths[place] for place in index], times)


def _is_transformed(source: object) -> bool:
    """Whether a torchvision data set changes its images by functions, whose effect no file shows."""
    return any(getattr(source, name, None) is not None for name in ("transform", "transforms"))


def _content_of_parts(source: ConcatDataset[Any], index: Sequence[int], times: bool) -> Content | None:
    ends = source.cumulative_sizes
    runs: list[tuple[int, list[int]]] = []
    for place in index:
        part = bisect_right(ends, place)
        if not runs or runs[-1][0] != part:
            runs.append((part, []))
        runs[-1][1].append(place - (ends[part - 1] if part else 0))
    found = [_content(source.datasets[part], places, times) for part, places in runs]
    known = [content for content in found if content is not None]
    if len(known) < len(found):
        return None
    words = "; ".join(dict.fromkeys(content.words for content in known))
    return Content(words, (part for content in known for part in content.parts))


def _read(samples: IndexedSamples, index: Sequence[int]) -> Iterator[bytes]:
    """Every sample as evaluations receive it, with its label."""
    for place in tqdm(index, "reading every sample once, to know which data these are", delay=2, leave=False):
        sample, _, label = samples[place]
        yield f"{sample.dtype} {tuple(sample.shape)} {label}\n".encode()
        yield sample.contiguous().numpy().tobytes()


def _paths(source: object) -> list[str] | None:
    """One path per sample, if the data set has a list of paths as long as itself."""
    for name in PATHS:
        listed = getattr(source, name, None)
        if not isinstance(listed, list) or not listed or len(listed) != len(cast(Source, source)):
            continue
        paths = [entry[0] if isinstance(entry, tuple) and entry else entry for entry in listed]
        if all(isinstance(path, str | os.PathLike) for path in paths):
            return [os.fspath(path) for path in paths]
    return None


def _relative(path: str, root: str | None) -> str:
    if root is not None and not path.startswith(root):
        root = str(Path(root))  # in the paths of some classes "./photos/" becomes "photos"
    if root is not None and path.startswith(root):
        path = path[len(root) :].lstrip(os.sep)
    return _as_text(path.replace(os.sep, "/"))


def _as_text(path: str) -> str:
    """Printable path for JSON: bytes that are not text are escaped as ``\\xff``."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


def _checksum(parts: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _keys(names: Sequence[str]) -> Tensor:
    digests = (hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8] for name in names)
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64))


def _inverse(old_of: Tensor, count: int) -> Tensor:
    new_of = torch.full((count,), -1, dtype=torch.int64)
    kept = old_of >= 0
    new_of[old_of[kept]] = kept.nonzero().flatten()
    return new_of
