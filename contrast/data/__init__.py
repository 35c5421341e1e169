"""Data: images from files and data set classes, as uint8 with their indices, and their views on the device."""

from contrast.data.arrays import ArrayImages
from contrast.data.batch import Batch, LabelledBatch
from contrast.data.digits import Digits
from contrast.data.folder import ImageFolder
from contrast.data.image_data import ImageData
from contrast.data.indexed import IndexedImages
from contrast.data.views import MoCoV1Views, MoCoV2Views, SimCLRViews, Views, contact_sheet

__all__ = [
    "ArrayImages",
    "Batch",
    "Digits",
    "ImageData",
    "ImageFolder",
    "IndexedImages",
    "LabelledBatch",
    "MoCoV1Views",
    "MoCoV2Views",
    "SimCLRViews",
    "Views",
    "contact_sheet",
]
