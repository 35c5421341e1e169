from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from sklearn.datasets import load_digits

from contrast.data.digits import Digits
from contrast.data.indexed import IndexedImages, labels_of


def rows(digits: Digits) -> list[bytes]:
    return [digits[place][0].numpy().tobytes() + bytes([digits[place][1]]) for place in range(len(digits))]


def test_the_two_parts_are_the_whole_set():
    train, test = Digits(train=True), Digits(train=False)
    assert (len(train), len(test)) == (1437, 360)
    source = load_digits()
    scaled = [
        bytes(int(value * 255 / 16 + 0.5) for value in image.reshape(-1).astype(int)) + bytes([label])
        for image, label in zip(source.images, source.target, strict=True)
    ]
    assert Counter(rows(train)) + Counter(rows(test)) == Counter(scaled)


def test_of_each_class_a_fifth_is_tested():
    tested = Counter(Digits(train=False).labels.tolist())
    for label, count in Counter(load_digits().target.tolist()).items():
        assert abs(tested[label] - count / 5) < 1


def test_the_split_is_every_fifth_by_class():
    source = load_digits()
    order = sorted(range(1797), key=lambda place: (source.target[place], place))
    expected = sorted(order[::5])
    test = Digits(train=False)
    assert test.labels.tolist() == source.target[expected].tolist()
    assert all(
        np.array_equal(test[n][0][0].numpy() > 127, source.images[e] > 8 - 0.03) for n, e in enumerate(expected[:40])
    )
    assert rows(Digits(train=False)) == rows(test)


def test_pixels_span_the_range_and_labels_are_known():
    train = Digits()
    images = torch.stack([train[place][0] for place in range(len(train))])
    assert images.shape == (1437, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert (int(images.min()), int(images.max())) == (0, 255)
    labels = labels_of(train)
    assert labels is not None
    assert labels.tolist() == [train[place][1] for place in range(len(train))]
    assert IndexedImages(train, channels=3)[5][0].shape == (3, 8, 8)
    assert train.classes == tuple("0123456789")
