"""Backbones, projection heads, pretrained weights, split batch norm and momentum encoders."""

from __future__ import annotations

from contrast.models.backbone import Backbone, require_fitting
from contrast.models.batch_norm import split_batch_norm
from contrast.models.convnet import ConvNet
from contrast.models.heads import Head, LinearHead, MLPHead, MoCoV2Head, MultiHead, SimCLRHead
from contrast.models.momentum import momentum_copy, update_momentum
from contrast.models.resnet import ResNet
from contrast.models.series import DilatedConvNet, ResNet1d
from contrast.models.timm_backbone import Timm
from contrast.models.weights import load_weights
from contrast.models.wrapped import Compiled, GradientCache

__all__ = [
    "Backbone",
    "Compiled",
    "ConvNet",
    "DilatedConvNet",
    "GradientCache",
    "Head",
    "LinearHead",
    "MLPHead",
    "MoCoV2Head",
    "MultiHead",
    "ResNet",
    "ResNet1d",
    "SimCLRHead",
    "Timm",
    "load_weights",
    "momentum_copy",
    "require_fitting",
    "split_batch_norm",
    "update_momentum",
]
