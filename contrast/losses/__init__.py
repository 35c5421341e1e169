"""Losses: `ContrastiveLoss` with four slots (transform, temperature, objective, weighting), and `Loss` for the rest."""

from contrast.losses.bad_pair_mining import BadPairMining, bad_pair_weights
from contrast.losses.base import Loss, LossOutput, PairTransform, PairWeighting, Piece, weighted_mean
from contrast.losses.candidates import real_scores
from contrast.losses.contrastive import ContrastiveLoss, LogitLoss
from contrast.losses.false_negatives import FalseNegativeAttraction, FalseNegativeRemoval, SameClassRemoval
from contrast.losses.feature_transformation import (
    NegativeInterpolation,
    PositiveExtrapolation,
    extrapolate,
    interpolate,
)
from contrast.losses.hard_negative_mixing import HardNegativeMixing, mix_pairs, mix_with_query
from contrast.losses.logits import (
    DenseNegatives,
    NegativeLogits,
    PositiveLogits,
    Tile,
    TiledNegatives,
    negative_logits,
    positive_logits,
)
from contrast.losses.look import LOOK
from contrast.losses.negative_free import BYOLLoss, SimSiamLoss
from contrast.losses.objectives import DCL, DCLW, HCL, Debiased, HardestNegative, InfoNCE, Objective
from contrast.losses.redundancy import BarlowTwins, VICReg, amcl_barlow, cross_correlation
from contrast.losses.sup_con import SupCon
from contrast.losses.temperature import (
    AdaptiveTemperature,
    FixedTemperature,
    LearnedTemperature,
    NoLogitError,
    Temperature,
    amcl_logits,
)

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
    "NoLogitError",
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
    "positive_logits",
    "real_scores",
    "weighted_mean",
]
