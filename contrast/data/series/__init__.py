"""Time series: files and data set classes of arrays (channel, step), and their random views."""

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
