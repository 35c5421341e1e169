"""Files of arrays, of series and of published formats, odd or damaged, and a run that reads them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.data import formats
from tests.harness.fuzz.case import SPRUNG, Case
from tests.harness.fuzz.damage import damage, ways
from tests.harness.fuzz.sources import pretraining

__all__ = ["Trap", "arrays", "published", "series_files"]

_COUNT = 32
Arrays = dict[str, Any]


class Trap:
    """Touches a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(SPRUNG),))


def _images(kind: str = "uint8") -> np.ndarray:
    return (np.random.default_rng(0).integers(0, 256, (_COUNT, 9, 9, 3))).astype(kind)


def _floats() -> np.ndarray:
    return np.random.default_rng(0).random((_COUNT, 9, 9, 3)).astype(np.float32)


def _series() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(_COUNT, 6, 20)).astype(np.float32)


_LABELS = np.arange(_COUNT) % 4


def _with(array: np.ndarray, value: float) -> np.ndarray:
    array[3].flat[5] = value
    return array


def _objects(array: np.ndarray) -> np.ndarray:
    held = np.empty(len(array), dtype=object)
    held[:] = [Trap() for _ in array]
    return held


_ODD_VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda array: array,
    "NaN": lambda array: _with(array.astype(np.float32) / 255, float("nan")),
    "infinity": lambda array: _with(array.astype(np.float32) / 255, float("inf")),
    "1e308": lambda array: _with(array.astype(np.float64), 1e308),
    "float16": lambda array: (array / 255).astype(np.float16),
    "long double": lambda array: array.astype(np.longdouble) / 255,
    "one axis": lambda array: array.reshape(-1),
    "no axis": lambda array: np.array(3),
    "five axes": lambda array: array[None, None],
    "none of them": lambda array: array[:0],
    "no width": lambda array: array[..., :0],
    "one": lambda array: array[:1],
    "seven channels": lambda array: np.repeat(array[..., :1], 7, -1),
    "objects": _objects,
    "texts": lambda array: np.full(len(array), "x"),
    "bytes": lambda array: np.full(len(array), b"x"),
    "dates": lambda array: np.full(array.shape, np.datetime64("2020-01-01")),
    "complex": lambda array: array.astype(np.complex64),
    "records": lambda array: np.zeros(len(array), dtype=[("a", "u1"), ("b", "f4")]),
    "bool": lambda array: array > 0,
    "negative": lambda array: array.astype(np.int64) - 500,
    "huge": lambda array: array.astype(np.uint64) + np.uint64(2**63),
    "other byte order": lambda array: array.astype(">i2"),
    "Fortran order": lambda array: np.asfortranarray(array),
}

_ODD_LABELS: dict[str, Any] = {
    "as they are": _LABELS,
    "too few": _LABELS[:-1],
    "too many": np.arange(_COUNT + 1),
    "floats": _LABELS / 2,
    "NaN": np.full(_COUNT, np.nan),
    "negative": _LABELS - 5,
    "huge": _LABELS + 2**62,
    "beyond 64 bits": np.full(_COUNT, 2**64 - 1, dtype=np.uint64),
    "texts": np.array(["a"] * _COUNT),
    "objects": _objects(_LABELS),
    "two columns": np.stack([_LABELS, _LABELS]),
    "none": np.zeros(0, dtype=np.int64),
    "a number": np.array(3),
    "unlabelled": np.full(_COUNT, -1),
    "bool": _LABELS > 1,
}


@st.composite
def arrays(draw: Callable) -> Case:
    """An ``.npz`` or ``.npy`` of images or series with odd values, odd labels, or damage."""
    holds = draw(st.sampled_from(["images", "series"]))
    suffix = draw(st.sampled_from(["npz", "npz", "npy"]))
    values, labels = draw(st.sampled_from(sorted(_ODD_VALUES))), draw(st.sampled_from(sorted(_ODD_LABELS)))
    if draw(st.booleans()):
        values, labels = draw(st.sampled_from([(values, "as they are"), ("as they are", labels)]))
    done = draw(ways()) if draw(st.integers(0, 2)) == 0 else None
    if done is not None:
        values = labels = "as they are"
    name = {"images": "contrast.data.ArrayImages", "series": "contrast.data.ArraySeries"}[holds]
    source = {"class_path": name, "init_args": {"path": f"data.{suffix}"}}
    given: Arrays = {"channels": 3} if holds == "images" else {"channels": 6}
    what = f"{holds}.{suffix}, values: {values}, labels: {labels}" + (f", {done[0]} ({done[1]})" if done else "")
    prepare = partial(_write, holds, suffix, values, labels, done)
    return pretraining("array", what, source, prepare, given, "series" if holds == "series" else "")


def _write(holds: str, suffix: str, values: str, labels: str, done: tuple[str, int] | None, folder: Path) -> None:
    array = _ODD_VALUES[values](_images() if holds == "images" else _series())
    file = folder / f"data.{suffix}"
    if suffix == "npy":
        np.save(file, array, allow_pickle=True)
    else:
        np.savez(file, allow_pickle=True, **{holds: array, "labels": _ODD_LABELS[labels]})
    if done is not None:
        damage(file, *done)


_HEAD = "@problemName x\n@timeStamps false\n@univariate false\n@classLabel true a b\n@data\n"
_LINE = ":".join([",".join(["1.5", "-2", "3e0", "4"])] * 6)
_GOOD_TS = _HEAD + "".join(f"{_LINE}:{'ab'[number % 2]}\n" for number in range(_COUNT))

_ODD_TS: dict[str, str] = {
    "as it is": _GOOD_TS,
    "no data": _HEAD,
    "no head": _GOOD_TS.removeprefix(_HEAD),
    "no @data": _GOOD_TS.replace("@data\n", ""),
    "an unknown class": _GOOD_TS + f"{_LINE}:c\n",
    "NaN": _GOOD_TS + f"{_LINE.replace('3e0', 'NaN')}:a\n",
    "missing": _GOOD_TS + f"{_LINE.replace('3e0', '?')}:a\n",
    "infinity": _GOOD_TS + f"{_LINE.replace('3e0', 'inf')}:a\n",
    "1e400": _GOOD_TS + f"{_LINE.replace('3e0', '1e400')}:a\n",
    "words": _GOOD_TS + f"{_LINE.replace('3e0', 'x')}:a\n",
    "other channels": _GOOD_TS + "1,2,3,4:a\n",
    "other lengths": _GOOD_TS + f"{_LINE},9:a\n",
    "timestamps": _GOOD_TS.replace("timeStamps false", "timeStamps true"),
    "an empty line of colons": _GOOD_TS + "::::::\n",
    "no class": _GOOD_TS + f"{_LINE}\n",
    "an @ alone": "@\n" + _GOOD_TS,
    "@classLabel alone": _GOOD_TS.replace("@classLabel true a b", "@classLabel"),
    "@timeStamps alone": _GOOD_TS.replace("@timeStamps false", "@timeStamps"),
    "@targetlabel alone": _GOOD_TS.replace("@classLabel true a b", "@targetlabel"),
    "a zero byte": _GOOD_TS + "\0",
    "one long line": _HEAD + "1," * 300_000 + "1:a\n",
}


@st.composite
def series_files(draw: Callable) -> Case:
    """A ``.ts`` file with odd lines, or damaged."""
    name, done = draw(st.sampled_from(sorted(_ODD_TS))), None
    if draw(st.booleans()):
        name, done = "as it is", draw(ways())

    def prepare(folder: Path) -> None:
        (folder / "data.ts").write_text(_ODD_TS[name])
        if done is not None:
            damage(folder / "data.ts", *done)

    source = {"class_path": "contrast.data.TsFile", "init_args": {"path": "data.ts"}}
    what = name + (f", {done[0]} ({done[1]})" if done else "")
    return pretraining("series file", what, source, prepare, {"channels": 6}, "series")


_WRITERS: dict[str, tuple[Callable[[Path, int], None], list[str]]] = {
    "FashionMNIST": (
        formats.write_fashion_mnist,
        ["FashionMNIST/raw/train-images-idx3-ubyte", "FashionMNIST/raw/train-labels-idx1-ubyte"],
    ),
    "CIFAR10": (
        formats.write_cifar10,
        ["cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/batches.meta"],
    ),
    "STL10": (formats.write_stl10, ["stl10_binary/train_X.bin", "stl10_binary/train_y.bin"]),
}


@st.composite
def published(draw: Callable) -> Case:
    """Files in the published formats, damaged; CIFAR's also with a pickle that would run something."""
    name = draw(st.sampled_from(["FashionMNIST", "FashionMNIST", *_WRITERS]))
    write, files = _WRITERS[name]
    file = draw(st.sampled_from(files))
    # torchvision opens its files itself, and waits at a pipe.
    done = draw(ways().filter(lambda way: way[0] not in ("a pipe", "/dev/zero")))
    trapped = name == "CIFAR10" and draw(st.booleans())

    def prepare(folder: Path) -> None:
        write(folder / "data", _COUNT)
        if trapped:
            (folder / "data" / file).write_bytes(pickle.dumps({"data": Trap(), "labels": []}))
        else:
            damage(folder / "data" / file, *done)

    source = {"class_path": f"torchvision.datasets.{name}", "init_args": {"root": "data"}}
    what = f"{file} {'with a trap' if trapped else f'{done[0]} ({done[1]})'}"
    return pretraining("published format", what, source, prepare, {"channels": 3})
