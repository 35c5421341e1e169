"""Checks for pieces from outside the package: objectives, transforms, temperatures, backbones, banks and observers.

Each check runs a piece on a few random rows in seconds, and asserts the properties that the built-in pieces have. A
failed property raises an AssertionError with one sentence: the property, the value, and what usually causes it. A check
never changes the piece that it is given.
"""

from contrast.testing.backbone import check_backbone
from contrast.testing.bank import check_bank
from contrast.testing.losses import check_objective, check_temperature, check_transform
from contrast.testing.observer import check_observer

__all__ = [
    "check_backbone",
    "check_bank",
    "check_objective",
    "check_observer",
    "check_temperature",
    "check_transform",
]
