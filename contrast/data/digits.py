"""Handwritten digits: a small image data set that needs no download and no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from contrast.checks import checked
from contrast.data.sources import Content, array_rows

__all__ = ["Digits"]


class Digits(Dataset[tuple[Tensor, int]]):
    """scikit-learn's 1,797 handwritten digits of 8 by 8 grey pixels: 1,437 training and 360 test images.

    Pixels v from 0 to 16 become ``round(255 v / 16)``. The split is fixed, stratified and uses no random number: with
    the images ordered by class and, within a class, as in the source, every fifth image is a test image. The test set
    therefore has a fifth of each class, plus or minus one image. At 98 % accuracy, 360 images have a standard error of
    0.7 points.

    Args:
        train: True for the training images, False for the test images.

    Attributes:
        labels: int64, (n,).
        classes: "0" to "9".

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998).

    Example:
        >>> image, label = Digits(train=True)[0]
        >>> tuple(image.shape), image.dtype, label
        ((1, 8, 8), torch.uint8, 1)
    """

    classes = tuple("0123456789")

    @checked
    def __init__(self, train: bool = True) -> None:
        from sklearn.datasets import load_digits  # imported here: it takes a seventh of a second

        digits = load_digits()
        tested = np.zeros(len(digits.target), dtype=bool)
        tested[np.argsort(digits.target, kind="stable")[::5]] = True
        chosen = ~tested if train else tested
        pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
        self._images: UInt8[Tensor, "n 1 8 8"] = torch.from_numpy(pixels)[:, None]
        self.labels: Int64[Tensor, " n"] = torch.from_numpy(digits.target[chosen].astype(np.int64))

    def __len__(self) -> int:
        return len(self._images)

    def images_at(self, index: Sequence[int]) -> UInt8[Tensor, "b 1 8 8"]:
        """A batch of images in one call, for loaders."""
        return self._images[torch.tensor(index)]

    def content(self, index: Sequence[int], times: bool) -> Content:
        """All bytes of these images."""
        return Content("all bytes of the array", array_rows(self._images.numpy(), index))

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "1 8 8"], int]:
        return self._images[index], int(self.labels[index])
