"""Time series data: readers of files, a data module for arrays (channel, step), and random views."""

from __future__ import annotations

from contrast.data.series.data import IndexedSeries, SeriesData
from contrast.data.series.files import AeonSet, ArraySeries, TsFile
from contrast.data.series.views import Crop, Jitter, Permutation, Scaling, SeriesStep, SeriesViews

__all__ = [
    "AeonSet",
    "ArraySeries",
    "Crop",
    "IndexedSeries",
    "Jitter",
    "Permutation",
    "Scaling",
    "SeriesData",
    "SeriesStep",
    "SeriesViews",
    "TsFile",
]
