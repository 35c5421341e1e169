"""The loaders of a run's data."""

from __future__ import annotations

import pytest

from contrast.data import Digits, ImageData, SimCLRViews


@pytest.mark.parametrize(("workers", "training", "evaluating"), [(0, 0, 0), (2, 2, 2), (168, 2, 2)])
def test_no_more_workers_start_than_there_are_batches(workers: int, training: int, evaluating: int) -> None:
    views = SimCLRViews(size=8, blur=0.0)
    data = ImageData(Digits(), views, Digits(train=False), 100, workers, channels=1, limit=250)
    assert data.train_dataloader().num_workers == training
    assert data.evaluation_loader("test").num_workers == evaluating
    assert data.evaluation_loader("train", limit=5).num_workers == min(workers, 1)
