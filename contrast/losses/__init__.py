"""Losses: one formula with four slots (transform, temperature, objective, weight), and a second door, `Loss`."""

from contrast.losses.contrastive import ContrastiveLoss
from contrast.losses.logits import DenseNegatives, NegativeLogits, PositiveLogits, Tile
from contrast.losses.loss import Loss, LossOutput
from contrast.losses.objectives import DCL, DCLW, InfoNCE, Objective
from contrast.losses.pieces import PairTransform, PairWeighting, Piece
from contrast.losses.temperature import FixedTemperature, LearnedTemperature, Temperature

__all__ = [
    "DCL",
    "DCLW",
    "ContrastiveLoss",
    "DenseNegatives",
    "FixedTemperature",
    "InfoNCE",
    "LearnedTemperature",
    "Loss",
    "LossOutput",
    "NegativeLogits",
    "Objective",
    "PairTransform",
    "PairWeighting",
    "Piece",
    "PositiveLogits",
    "Temperature",
    "Tile",
]
