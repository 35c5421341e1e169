"""Series from a ``.ts`` file, the format of the UCR and UEA archives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from contrast.arguments import checked
from contrast.data.array_file import require_file
from contrast.data.series.values import series_content, to_series
from contrast.data.sources import Content
from contrast.errors import InputError

__all__ = ["TsFile"]


class TsFile(Dataset[tuple[Tensor, int | None]]):
    """The series of a ``.ts`` file, held in memory; they may differ in length (see `SeriesData`'s ``length``).

    The file is in UTF-8, with or without a byte order mark, or in Latin-1. A header of ``@`` lines, then a line a
    series: channels between colons, each with its values between commas, and the class last. Classes are numbered in
    natural order ("2" before "10"), not in the order of the header, so that two files of the same classes agree. The
    target of a regression is passed over.

    Args:
        path: the file.

    Attributes:
        labels: int64, (n,), or None where the file names no classes.
        classes: their names.

    Raises:
        InputError: naming file and line, for a missing file, one with timestamps, a line that does not fit the header,
            and a number that is missing (``?`` or NaN), naming series and channel.

    Source: Bagnall et al., The UEA multivariate time series classification archive, 2018, arXiv 1811.00075.
    """

    @checked
    def __init__(self, path: str | Path) -> None:
        self.path = str(Path(path).expanduser())
        lines = _lines(self.path)
        header = _header(lines, self.path)
        self.classes = sorted(header.get("classlabel", [])[1:], key=_natural)
        ends_in_target = bool(self.classes) or header.get("targetlabel", ["false"])[0].lower() == "true"
        self._series: list[Tensor] = []
        numbers = []
        for number, line in lines:
            *channels, target = line.split(":") if ends_in_target else [*line.split(":"), ""]
            try:
                self._series.append(_series(channels))
                if self.classes:
                    numbers.append(_class_number(target.strip(), self.classes))
            except InputError as error:
                raise InputError(f"{self.path!r}, line {number}, series {len(self._series)}: {error}") from error
        if not self._series:
            raise InputError(f"{self.path!r} holds no series: give a .ts file with lines after @data")
        self.labels: Int64[Tensor, " n"] | None = torch.tensor(numbers) if self.classes else None

    def __len__(self) -> int:
        return len(self._series)

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these series."""
        return series_content(self._series, index)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c t"], int | None]:
        return self._series[index], None if self.labels is None else int(self.labels[index])


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is neither empty nor a comment."""
    require_file(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path!r}: correct `path`, or put the series there") from error
    except OSError as error:
        raise InputError(f"{path!r} cannot be read: {error.strerror}") from error
    if b"\0" in data:
        raise InputError(f"{path!r} is no text, or none of 8-bit characters: give a .ts file in UTF-8")
    try:
        text = data.decode("utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _header(lines: Iterator[tuple[int, str]], path: str) -> dict[str, list[str]]:
    """The words after each ``@name``, down to ``@data``."""
    header: dict[str, list[str]] = {}
    for number, line in lines:
        if not line.startswith("@"):
            raise InputError(f"{path!r}, line {number}: {line:.40} stands before @data: give a .ts file")
        name, *words = line[1:].split()
        if name.lower() == "data":
            break
        header[name.lower()] = words
    else:
        raise InputError(f"{path!r} has no line @data: give a .ts file")
    if header.get("timestamps", ["false"])[0].lower() == "true":
        raise InputError(f"{path!r} has timestamps: give values at even steps, with @timeStamps false")
    if header.get("classlabel", ["true"])[0].lower() != "true":
        del header["classlabel"]
    return header


def _series(channels: list[str]) -> Tensor:
    rows = []
    for place, channel in enumerate(channels):
        words = ["nan" if word.strip() == "?" else word for word in channel.split(",")]
        if len(words) > 1 and not words[-1].strip():  # a comma after the last value
            words.pop()
        try:
            rows.append(np.array(words, dtype=np.float64))
        except ValueError:
            raise InputError(f"channel {place} is no list of numbers: {channel:.40}") from None
    if not rows:
        raise InputError("it has no channel: separate channels and the class by colons")
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise InputError(f"its channels have {lengths[0]} to {lengths[-1]} steps: give each as many")
    return to_series(np.stack(rows))


def _class_number(name: str, classes: list[str]) -> int:
    if name not in classes:
        raise InputError(f"the class {name:.40} is not among those of @classLabel: {', '.join(classes)}")
    return classes.index(name)


def _natural(name: str) -> tuple[tuple[float, str], ...]:
    parts = re.findall(r"\d+\.?\d*|\D+", name)
    return tuple((float(part), "") if part[0].isdigit() else (float("inf"), part) for part in parts)
