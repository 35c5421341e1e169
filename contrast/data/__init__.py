"""Data for pretraining: images and time series with their sample indices, and random views made on the device."""

from contrast.data import contact_sheet
from contrast.data.arrays import ArrayImages
from contrast.data.batch import Batch, LabelledBatch
from contrast.data.digits import Digits
from contrast.data.folder import ImageFolder
from contrast.data.image_data import ImageData
from contrast.data.indexed import IndexedImages, IndexedSamples
from contrast.data.series import AeonSet, ArraySeries, SeriesData, SeriesViews, TsFile
from contrast.data.standardisation import Standardisation
from contrast.data.training_data import TrainingData
from contrast.data.views import MoCoV1Views, MoCoV2Views, RandomViews, SimCLRViews, Views

__all__ = [
    "AeonSet",
    "ArrayImages",
    "ArraySeries",
    "Batch",
    "Digits",
    "ImageData",
    "ImageFolder",
    "IndexedImages",
    "IndexedSamples",
    "LabelledBatch",
    "MoCoV1Views",
    "MoCoV2Views",
    "RandomViews",
    "SeriesData",
    "SeriesViews",
    "SimCLRViews",
    "Standardisation",
    "TrainingData",
    "TsFile",
    "Views",
    "contact_sheet",
]
