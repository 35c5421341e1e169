"""Methods: Lightning modules that differ in how a batch becomes pairs."""

from contrast.methods.contrastive_method import ContrastiveMethod
from contrast.methods.moco import MoCo
from contrast.methods.simclr import SimCLR

__all__ = ["ContrastiveMethod", "MoCo", "SimCLR"]
