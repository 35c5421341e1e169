"""The time series that come with aeon's package: no download, no files of one's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from contrast.arguments import checked
from contrast.data.series.ts_file import TsFile
from contrast.data.sources import Content
from contrast.errors import InputError, did_you_mean

__all__ = ["AeonSet"]


class AeonSet(Dataset[tuple[Tensor, int | None]]):
    """A set of the UCR and UEA archives whose ``.ts`` files lie in aeon's package; needs ``contrast[series]``.

    aeon itself is not imported: nothing but its files is used. Train and test are the archives' own split.

    Args:
        name: of the set, say "JapaneseVowels_eq" (270 and 370 series of 12 channels and 25 steps, 9 speakers) or
            "BasicMotions" (40 and 40 of 6 channels and 100 steps, 4 motions).
        split: which of its two files.

    Attributes:
        labels: int64, (n,).
        classes: their names.

    Raises:
        InputError: where aeon is not installed, or its package has no such set.

    Source: Kudo, Toyama and Shimbo, Multidimensional curve classification using passing-through regions (Pattern
    Recognition Letters 1999), for the vowels; Bagnall et al., arXiv 1811.00075, for the archive.
    """

    @checked
    def __init__(self, name: str, split: Literal["train", "test"] = "train") -> None:
        folder = _folder()
        sets = {path.name.removesuffix("_TRAIN.ts"): path.parent for path in folder.glob("*/*_TRAIN.ts")}
        if name not in sets:
            raise InputError(f"no set {name!r} in aeon's package{did_you_mean(name, sets)}")
        file = TsFile(sets[name] / f"{name}_{split.upper()}.ts")
        self._file, self.labels, self.classes = file, file.labels, file.classes

    def __len__(self) -> int:
        return len(self._file)

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these series."""
        return self._file.content(index, times)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c t"], int | None]:
        return self._file[index]


def _folder() -> Path:
    found = importlib.util.find_spec("aeon")  # of a package at the top, it imports nothing
    if found is None or not found.submodule_search_locations:
        raise InputError("AeonSet reads the files of aeon, which is not installed: pip install 'contrast[series]'")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data"
