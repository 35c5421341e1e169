"""Read what a run recorded of its samples: losses over epochs, score histograms, gallery and pictures."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from contrast.records import last_row, last_row_per_step, read_object
from contrast.report.numbers import is_number, number
from contrast.run_folder import RunFolder

__all__ = [
    "SOME_NEGATIVES",
    "Gallery",
    "HardNegative",
    "Pair",
    "Pictures",
    "Query",
    "Samples",
    "ScoreSummary",
    "Snapshot",
    "losses_by_epoch",
    "read_gallery",
    "read_samples",
    "read_snapshots",
]

MOMENTS = ("loss_mean", "loss_std", "positive_mean", "positive_std")


@dataclass(frozen=True)
class Samples:
    """Mean and standard deviation over epochs of each training sample that was seen in at least two epochs.

    Attributes:
        index: sample indices in the training set, shape (n,).
        moments: `loss_mean`, `loss_std`, `positive_mean` and `positive_std` over epochs, each float64 of shape (n,).
            NaN where the loss gives no loss by sample.
        flag: bad-pair flag in the newest epoch file, shape (n,): 0 not flagged, 1 noisy, 2 faulty.
        paths: file of each sample, relative to the folder of the data. Empty where samples are not files, and where
            there are too many to record.
    """

    index: Int[np.ndarray, " n"]
    moments: dict[str, Float[np.ndarray, " n"]]
    flag: Int[np.ndarray, " n"]
    paths: tuple[str, ...] = ()


def read_samples(folder: RunFolder) -> Samples | None:
    """Read the moments of the samples over epochs from ``pairs/all_epochs.safetensors``.

    Returns:
        The samples seen in at least two epochs. None where the file is missing or damaged, or no sample qualifies.
    """
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
    """Losses of some samples over the recorded epochs.

    Args:
        folder: the run folder.
        index: sample indices in the training set.
        numbering: identifier of the data set that the indices refer to. Files with another identifier are skipped;
            an empty identifier matches every file.

    Returns:
        For each index, the sample's finite losses in order of epoch. An epoch without a loss of the sample is skipped.
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
    if not path.is_file():  # excludes pipes and devices too: reading one may never end
        raise FileNotFoundError(path)
    return load_file(path)


def _paths(folder: RunFolder, count: int) -> list[str]:
    """File of each sample, if samples.json and ``all_epochs.safetensors`` number the samples alike; else empty."""
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


SOME_NEGATIVES = ("hardest", "same_class", "mined", "pair_mix", "query_mix", "synthetic", "own")
"""Keys of scores.jsonl whose histogram covers a subset of the negatives."""


@dataclass(frozen=True)
class ScoreSummary:
    """Histogram of scores (cosine similarities before the temperature), with their exact mean and deviation.

    Attributes:
        counts: number of scores in each bin.
        mean: mean of the scores themselves, not of the bins. None where it was not recorded.
        std: standard deviation of the scores themselves. None where it was not recorded.
    """

    counts: list[int]
    mean: float | None
    std: float | None


@dataclass(frozen=True)
class Snapshot:
    """Score histograms of one training step.

    Attributes:
        step: the training step, from 1.
        epoch: the epoch, from 0. None where it was not recorded.
        positive: scores of the queries with their positives. None where the method has no positives.
        negative: scores of the queries with all their negatives. None where the method has no negatives.
        some: scores of the queries with a subset of their negatives, by key of `SOME_NEGATIVES`. Empty subsets are
            left out.
    """

    step: int
    epoch: int | None
    positive: ScoreSummary | None
    negative: ScoreSummary | None
    some: dict[str, ScoreSummary] = field(default_factory=dict)


def read_snapshots(rows: list[dict[str, Any]], notes: list[str]) -> tuple[list[float], list[Snapshot]]:
    """Read the score histograms from rows of scores.jsonl.

    Args:
        rows: rows of scores.jsonl, including the header row that has the bin edges.
        notes: receives a note where there are no histograms.

    Returns:
        The bin edges, and the snapshots in order of step.
    """
    edges = next((_edges(row["edges"]) for row in rows if "edges" in row), [])
    whole = [row for row in rows if is_number(row.get("step"))]
    snapshots = [_snapshot(row, len(edges) - 1) for row in last_row_per_step(whole)] if edges else []
    seen = [snapshot for snapshot in snapshots if snapshot.positive or snapshot.negative]
    if not seen:
        notes.append("scores.jsonl has no histograms: no score densities and no separation.")
    return edges, seen


def _edges(value: Any) -> list[float]:
    rising = isinstance(value, list) and all(map(is_number, value)) and value == sorted(set(value))
    return [float(edge) for edge in value] if rising else []


def _snapshot(row: dict[str, Any], bins: int) -> Snapshot:
    epoch = number(row.get("epoch"))
    return Snapshot(
        step=int(row["step"]),
        epoch=None if epoch is None else int(epoch),
        positive=_side(row.get("positive"), bins),
        negative=_side(row.get("negative"), bins),
        some={name: side for name in SOME_NEGATIVES if (side := _side(row.get(name), bins))},
    )


def _side(value: Any, bins: int) -> ScoreSummary | None:
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(counts, list) or len(counts) != bins or not all(map(is_number, counts)) or not sum(counts) > 0:
        return None
    return ScoreSummary([int(count) for count in counts], number(value.get("mean")), number(value.get("std")))


GROUPS = ("highest", "lowest", "flagged")
KINDS = ("shared", "mined", "pair_mix", "query_mix")
MOST_BYTES = 262_144
MOST_PIXELS = 4096  # per side: a small file may decompress to gigabytes in the browser
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Pair:
    """Pair of views of one training sample, as the gallery recorded it.

    A missing number is None; a missing text is empty.

    Attributes:
        index: sample index in the training set.
        label: class of the sample.
        class_name: name of the class.
        path: file of the sample.
        loss: the pair's loss in the gallery's epoch.
        positive: score of the two views.
        weight: weight of the pair in the loss.
        flag: the bad-pair flag in words.
        pictures: paths of the pictures of the views, relative to the run folder.
        losses: the sample's losses over epochs.
        positives: the sample's positive scores over epochs.
    """

    index: int
    label: int | None
    class_name: str
    path: str
    loss: float | None
    positive: float | None
    weight: float | None
    flag: str
    pictures: tuple[str, ...]
    losses: tuple[float, ...]
    positives: tuple[float, ...]


@dataclass(frozen=True)
class HardNegative:
    """Hard negative of a query, as the gallery recorded it.

    A missing number is None; a missing text is empty. A synthetic negative (a mix) has no sample and no picture.

    Attributes:
        index: sample index in the training set.
        label: class of the sample.
        class_name: name of the class.
        path: file of the sample.
        score: cosine similarity with the query.
        share: share of the query's gradient on its negatives that falls on this negative.
        kind: one of `KINDS`.
        picture: path of the picture, relative to the run folder.
    """

    index: int | None
    label: int | None
    class_name: str
    path: str
    score: float | None
    share: float | None
    kind: str
    picture: str


@dataclass(frozen=True)
class Query:
    """Query with its hardest negatives, as the gallery recorded it.

    A missing number is None; a missing text is empty.

    Attributes:
        index: sample index in the training set.
        label: class of the sample.
        class_name: name of the class.
        path: file of the sample.
        positive: score with the positive.
        picture: path of the picture, relative to the run folder.
        negatives: its hardest negatives, the hardest first.
        losses: the sample's losses over the recorded epochs.
    """

    index: int
    label: int | None
    class_name: str
    path: str
    positive: float | None
    picture: str
    negatives: tuple[HardNegative, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Gallery:
    """Gallery of one epoch: one row of gallery.jsonl.

    Attributes:
        step: the training step.
        epoch: the epoch, from 0.
        groups: pairs by group name, one of `GROUPS`; empty groups are left out.
        queries: queries with their hardest negatives.
    """

    step: int
    epoch: int
    groups: dict[str, tuple[Pair, ...]]
    queries: tuple[Query, ...]


class Pictures:
    """Embed PNG pictures of a run folder as data URLs, so that the page needs no other file.

    Args:
        folder: the run folder. Paths that lead out of it are refused.
        budget: the total size of all pictures, in bytes. A picture that does not fit is left out and counted in
            `left_out`.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.left, self.left_out = folder.resolve(), budget, 0
        self._made: dict[str, str] = {}

    def url(self, path: str) -> str:
        """Data URL of the picture at a path in the run folder; empty text where the picture cannot be shown."""
        if path and path not in self._made:
            self._made[path] = self._url(path)
        return self._made.get(path, "")

    def _url(self, path: str) -> str:
        try:
            file = (self.folder / path).resolve()
            inside = file.is_relative_to(self.folder) and file.suffix == ".png"
            content = file.read_bytes() if inside and file.is_file() and file.stat().st_size <= MOST_BYTES else b""
        except (OSError, ValueError, RuntimeError):  # RuntimeError: a symbolic link to itself
            return ""
        if not content.startswith(PNG) or max(struct.unpack(">II", content[16:24].ljust(8, b"\xff"))) > MOST_PIXELS:
            return ""
        if len(content) > self.left:
            self.left_out += 1
            return ""
        self.left -= len(content)
        return "data:image/png;base64," + base64.b64encode(content).decode()


def read_gallery(folder: RunFolder) -> Gallery | None:
    """Read the newest complete row of gallery.jsonl; None where there is none."""
    row = last_row(folder.gallery)
    if row is None or not is_number(row["step"]):
        return None
    groups = {name: tuple(_pair(each) for each in _dicts(row.get(name))) for name in GROUPS}
    asked = _dicts(row.get("queries"))
    index = [index for each in asked if (index := _whole(each.get("index"))) is not None]
    losses = losses_by_epoch(folder, index, _text(row.get("numbering")))
    queries = tuple(_query(each, losses) for each in asked)
    groups = {name: pairs for name, pairs in groups.items() if pairs}
    return Gallery(int(row["step"]), _whole(row.get("epoch")) or 0, groups, queries) if groups or queries else None


def _pair(row: dict[str, Any]) -> Pair:
    history = row.get("history") if isinstance(row.get("history"), dict) else {}
    pictures = row.get("pictures") if isinstance(row.get("pictures"), list) else []
    return Pair(
        index=_whole(row.get("index")) or 0,
        label=_whole(row.get("label")),
        class_name=_text(row.get("class")),
        path=_text(row.get("path")),
        loss=number(row.get("loss")),
        positive=number(row.get("positive")),
        weight=number(row.get("weight")),
        flag=_text(row.get("flag")),
        pictures=tuple(_text(path) for path in pictures or []),
        losses=_finite((history or {}).get("loss")),
        positives=_finite((history or {}).get("positive")),
    )


def _query(row: dict[str, Any], losses: dict[int, tuple[float, ...]]) -> Query:
    index = _whole(row.get("index")) or 0
    return Query(
        index=index,
        label=_whole(row.get("label")),
        class_name=_text(row.get("class")),
        path=_text(row.get("path")),
        positive=number(row.get("positive")),
        picture=_text(row.get("picture")),
        negatives=tuple(
            HardNegative(
                index=known if (known := _whole(each.get("index"))) is not None and known >= 0 else None,
                label=_whole(each.get("label")),
                class_name=_text(each.get("class")),
                path=_text(each.get("path")),
                score=number(each.get("score")),
                share=number(each.get("share")),
                kind=kind if (kind := _text(each.get("kind"))) in KINDS else "shared",
                picture=_text(each.get("picture")),
            )
            for each in _dicts(row.get("negatives"))
        ),
        losses=losses.get(index, ()),
    )


def _dicts(value: Any) -> Sequence[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _finite(values: Any) -> tuple[float, ...]:
    found = [number(value) for value in values] if isinstance(values, list) else []
    return tuple(value for value in found if value is not None)


def _whole(value: Any) -> int | None:
    return int(value) if is_number(value) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
