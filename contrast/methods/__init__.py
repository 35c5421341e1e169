"""Self-supervised methods: Lightning modules that differ in how a batch becomes pairs."""

from contrast.methods.base import ContrastiveMethod
from contrast.methods.byol import BYOL
from contrast.methods.moco import MoCo
from contrast.methods.mocov3 import MoCoV3
from contrast.methods.nnclr import NNCLR
from contrast.methods.simclr import SimCLR
from contrast.methods.simsiam import SimSiam
from contrast.methods.two_view import TwoView

__all__ = ["BYOL", "NNCLR", "ContrastiveMethod", "MoCo", "MoCoV3", "SimCLR", "SimSiam", "TwoView"]
