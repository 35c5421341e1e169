"""Random views of images: SimCLR's and MoCo's recipes, and the augmentation steps to build others."""

from __future__ import annotations

from contrast.data.views.blur import GaussianBlur
from contrast.data.views.colour import ColourJitter, RandomGrey
from contrast.data.views.crop import RandomResizedCrop
from contrast.data.views.recipes import MoCoV1Views, MoCoV2Views, RandomViews, SimCLRViews, Views
from contrast.data.views.step import Step

__all__ = [
    "ColourJitter",
    "GaussianBlur",
    "MoCoV1Views",
    "MoCoV2Views",
    "RandomGrey",
    "RandomResizedCrop",
    "RandomViews",
    "SimCLRViews",
    "Step",
    "Views",
]
