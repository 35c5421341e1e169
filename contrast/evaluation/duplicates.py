"""Near-duplicate detection within and across image data sets, by cosine similarity of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from contrast.checks import checked
from contrast.data.image_data import thumbnail
from contrast.errors import InputError
from contrast.search.exact import nearest

__all__ = ["NearPairs", "Shown", "near_across", "near_within", "of_two_classes", "pairs_sheet"]

_AT_ONCE = 8192  # queries per search


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Near-duplicate pairs of rows, largest cosine first.

    Attributes:
        first, second: row numbers, (n,); within one set, `first` is the smaller of the two.
        cosine: cosine similarity of the two rows' features, (n,).
        complete: whether all near pairs are listed. False where every neighbour that was examined for some row was
            near, so there may be further pairs. Even then, each row that has a near row is in at least one pair.
    """

    first: Int[Tensor, " n"]
    second: Int[Tensor, " n"]
    cosine: Float[Tensor, " n"]
    complete: bool = True

    def __len__(self) -> int:
        return len(self.cosine)


@checked
def near_within(
    features: Float[Tensor, "n d"], threshold: float, neighbours: int = 10, progress: str | None = None
) -> NearPairs:
    """Near-duplicates within one set: pairs of rows with cosine similarity of at least the threshold.

    Each pair is listed once. A pair is found where one row is among the other's nearest rows.

    Args:
        features: one row per sample, (n, d); normalised by this function.
        threshold: smallest cosine of a pair.
        neighbours: number of nearest rows that are examined for each row. A sample with more copies still has pairs
            with some of them.
        progress: label of the progress bar on stderr; None shows no bar.

    Raises:
        InputError: where there are fewer than 2 rows, `neighbours` is below 1, or the threshold is outside (-1, 1].

    Example:
        >>> near_within(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), 0.9).first.tolist()
        [0]
    """
    if len(features) < 2:
        raise InputError(f"{len(features)} sample has no pairs: give at least 2")
    most = min(neighbours + 1, len(features))  # the search also returns the row itself
    row, found, cosine, complete = _above(features, features, threshold, neighbours, most, progress)
    first, second = torch.minimum(row, found), torch.maximum(row, found)
    pair, inverse = torch.unique(first * len(features) + second, return_inverse=True)
    best = cosine.new_full((len(pair),), -2.0).scatter_reduce_(0, inverse, cosine, "amax")
    first, second = pair // len(features), pair % len(features)
    others = first != second
    return _ordered(first[others], second[others], best[others], complete)


@checked
def near_across(
    features: Float[Tensor, "n d"],
    others: Float[Tensor, "m d"],
    threshold: float,
    neighbours: int = 10,
    progress: str | None = None,
) -> NearPairs:
    """Near-duplicates across two sets: pairs of a row of each set, with cosine of at least the threshold.

    Args:
        features: one row per sample of the first set, (n, d); normalised by this function.
        others: one row per sample of the second set, (m, d); normalised by this function.
        threshold: smallest cosine of a pair.
        neighbours: number of nearest rows of the second set that are examined for each row of the first set.
        progress: label of the progress bar on stderr; None shows no bar.

    Raises:
        InputError: where a set is empty, `neighbours` is below 1, or the threshold is outside (-1, 1].
    """
    most = min(neighbours, len(others))
    return _ordered(*_above(features, others, threshold, neighbours, most, progress))


@checked
def of_two_classes(pairs: NearPairs, first: Int[Tensor, " n"], second: Int[Tensor, " m"]) -> int | None:
    """Number of near-duplicate pairs whose two labels differ; None where no pair has two labels.

    Args:
        pairs: pairs of rows.
        first, second: labels of the rows on either side; -1 for no label.
    """
    one, other = first[pairs.first.cpu()], second[pairs.second.cpu()]
    known = (one >= 0) & (other >= 0)
    return int((known & (one != other)).sum()) if known.any() else None


def _above(
    query: Tensor, keys: Tensor, threshold: float, neighbours: int, most: int, progress: str | None
) -> tuple[Tensor, Tensor, Tensor, bool]:
    if neighbours < 1:
        raise InputError(f"{neighbours} neighbours find no pair: give at least 1")
    if not -1 < threshold <= 1:
        raise InputError(f"a threshold of {threshold:g} does not select pairs: give a cosine in (-1, 1]")
    unit, rows, columns, cosines, complete = F.normalize(keys, dim=1), [], [], [], True
    starts = range(0, len(query), _AT_ONCE)
    for start in tqdm(starts, desc=progress, disable=progress is None, leave=False):
        score, column = nearest(F.normalize(query[start : start + _AT_ONCE], dim=1), unit, most)
        # In float32 the cosine of a row and its copy is not exactly 1.
        near = score >= threshold - 1e-6
        complete &= most == len(keys) or not bool(near.all(dim=1).any())
        row, place = torch.nonzero(near, as_tuple=True)
        rows.append(row + start)
        columns.append(column[row, place])
        cosines.append(score[row, place].clamp(max=1.0))
    return torch.cat(rows), torch.cat(columns), torch.cat(cosines), complete


def _ordered(first: Tensor, second: Tensor, cosine: Tensor, complete: bool) -> NearPairs:
    order = cosine.argsort(descending=True, stable=True)
    return NearPairs(first[order], second[order], cosine[order], complete)


_SIDE, _GAP, _MARGIN, _LINE = 96, 4, 14, 15
_INK, _FAINT, _WARM = (32, 33, 36), (110, 114, 120), (176, 60, 0)
_PAPER, _FRAME = (255, 255, 255), (238, 238, 238)

Shown = tuple[UInt8[Tensor, "c h w"], UInt8[Tensor, "c h w"], str, str, bool]
"""Two images, a line of text, a second, fainter line, and whether the second line is highlighted."""


def pairs_sheet(path: Path, pairs: Sequence[Shown], title: str, columns: int = 5) -> Path:
    """Draw pairs of images as one contact sheet and save it.

    Args:
        path: file of the picture; a `.png` suffix makes it a PNG.
        pairs: images and texts to draw, row by row.
        title: text above the pairs.
        columns: number of pairs side by side.

    Returns:
        `path`.
    """
    width = 2 * _SIDE + _GAP
    height = _SIDE + 2 * _LINE + 6
    across, down = min(columns, max(1, len(pairs))), -(-len(pairs) // columns)
    size = (_MARGIN + across * (width + _MARGIN), 44 + down * (height + _MARGIN))
    sheet = Image.new("RGB", (max(size[0], 420), size[1]), _PAPER)
    draw, plain, large = ImageDraw.Draw(sheet), ImageFont.load_default(12), ImageFont.load_default(16)
    draw.text((_MARGIN, 12), title, fill=_INK, font=large)
    for place, (one, other, line, below, warm) in enumerate(pairs):
        left = _MARGIN + (place % columns) * (width + _MARGIN)
        top = 44 + (place // columns) * (height + _MARGIN)
        for column, image in enumerate((one, other)):
            sheet.paste(_framed(image), (left + column * (_SIDE + _GAP), top))
        draw.text((left, top + _SIDE + 4), line, fill=_INK, font=plain)
        draw.text((left, top + _SIDE + 4 + _LINE), below, fill=_WARM if warm else _FAINT, font=plain)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _framed(image: Tensor) -> Image.Image:
    picture = thumbnail(image, _SIDE)
    framed = Image.new("RGB", (_SIDE, _SIDE), _FRAME)
    framed.paste(picture, ((_SIDE - picture.width) // 2, (_SIDE - picture.height) // 2))
    return framed
