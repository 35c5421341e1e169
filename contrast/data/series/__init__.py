"""Time series: files and data set classes of arrays (channel, step), and their random views."""

from __future__ import annotations

from contrast.data.series.arrays import ArraySeries
from contrast.data.series.bundled import AeonSet
from contrast.data.series.indexed import IndexedSeries
from contrast.data.series.series_data import SeriesData
from contrast.data.series.steps import Crop, Jitter, Permutation, Scaling, SeriesStep
from contrast.data.series.ts_file import TsFile
from contrast.data.series.views import SeriesViews

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
