"""Losses: one formula with four slots (transform, temperature, objective, weight), and a second door, `Loss`."""

from contrast.losses.adaptive_temperature import AdaptiveTemperature, amcl_logits
from contrast.losses.bad_pair_mining import BadPairMining, bad_pair_weights
from contrast.losses.barlow_twins import BarlowTwins, amcl_barlow, cross_correlation
from contrast.losses.contrastive import ContrastiveLoss
from contrast.losses.debiased import HCL, Debiased
from contrast.losses.false_negatives import FalseNegativeAttraction, FalseNegativeRemoval
from contrast.losses.feature_transformation import (
    NegativeInterpolation,
    PositiveExtrapolation,
    extrapolate,
    interpolate,
)
from contrast.losses.hard_negative_mixing import HardNegativeMixing, mix_pairs, mix_with_query
from contrast.losses.hardest_negative import HardestNegative
from contrast.losses.logit_loss import LogitLoss
from contrast.losses.logits import DenseNegatives, NegativeLogits, PositiveLogits, Tile
from contrast.losses.look import LOOK
from contrast.losses.loss import Loss, LossOutput, weighted_mean
from contrast.losses.negative_free import BYOLLoss, SimSiamLoss
from contrast.losses.objectives import DCL, DCLW, InfoNCE, Objective
from contrast.losses.pieces import PairTransform, PairWeighting, Piece
from contrast.losses.same_class_removal import SameClassRemoval
from contrast.losses.sup_con import SupCon
from contrast.losses.temperature import FixedTemperature, LearnedTemperature, Temperature
from contrast.losses.tiled import TiledNegatives, negative_logits
from contrast.losses.vicreg import VICReg

__all__ = [
    "DCL",
    "DCLW",
    "HCL",
    "LOOK",
    "AdaptiveTemperature",
    "BYOLLoss",
    "BadPairMining",
    "BarlowTwins",
    "ContrastiveLoss",
    "Debiased",
    "DenseNegatives",
    "FalseNegativeAttraction",
    "FalseNegativeRemoval",
    "FixedTemperature",
    "HardNegativeMixing",
    "HardestNegative",
    "InfoNCE",
    "LearnedTemperature",
    "LogitLoss",
    "Loss",
    "LossOutput",
    "NegativeInterpolation",
    "NegativeLogits",
    "Objective",
    "PairTransform",
    "PairWeighting",
    "Piece",
    "PositiveExtrapolation",
    "PositiveLogits",
    "SameClassRemoval",
    "SimSiamLoss",
    "SupCon",
    "Temperature",
    "Tile",
    "TiledNegatives",
    "VICReg",
    "amcl_barlow",
    "amcl_logits",
    "bad_pair_weights",
    "cross_correlation",
    "extrapolate",
    "interpolate",
    "mix_pairs",
    "mix_with_query",
    "negative_logits",
    "weighted_mean",
]
