"""ResNet backbones from torchvision's blocks, with a choice of width and of a stem for small or large images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from contrast.checks import checked, require_positive
from contrast.errors import InputError, did_you_mean
from contrast.models.backbone import Backbone
from contrast.models.weights import load_weights

__all__ = ["ResNet", "choose_stem"]

SMALL_IMAGE = 32
"""Largest image size in pixels at which "auto" means the small stem.

The large stem and the stages leave ceil(size / 32) positions per side.
"""


class _Plan(NamedTuple):
    block: type[BasicBlock | Bottleneck]
    depths: tuple[int, int, int, int]
    groups: int = 1
    width_per_group: int = 64


_PLANS = {
    "resnet18": _Plan(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Plan(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Plan(Bottleneck, (3, 4, 6, 3)),
    "resnet101": _Plan(Bottleneck, (3, 4, 23, 3)),
    "resnet152": _Plan(Bottleneck, (3, 8, 36, 3)),
    "resnext50_32x4d": _Plan(Bottleneck, (3, 4, 6, 3), 32, 4),
    "resnext101_32x8d": _Plan(Bottleneck, (3, 4, 23, 3), 32, 8),
    "resnext101_64x4d": _Plan(Bottleneck, (3, 4, 23, 3), 64, 4),
    "wide_resnet50_2": _Plan(Bottleneck, (3, 4, 6, 3), 1, 128),
    "wide_resnet101_2": _Plan(Bottleneck, (3, 4, 23, 3), 1, 128),
}


class ResNet(Backbone):
    """ResNet backbone without its classifier; the features are the global average of the last stage.

    The network is built of torchvision's blocks under torchvision's names. With `base_width` 64, 3 channels and the
    large stem, its state dict equals the state dict of torchvision's network of the same name with an Identity as `fc`.

    "auto" chooses the small stem up to 32 pixels, as SimCLR's code does: at that size the large stem would leave the
    last stage one position. Above 32 pixels, a step with the small stem computes about 16 times as much. Set ``stem:
    small`` where small details matter, as is often done for Tiny ImageNet's 64 pixels.

    Args:
        name: torchvision's name, for example resnet18, resnet50, resnext50_32x4d or wide_resnet50_2.
        image_size: height and width of the images, in pixels. It chooses the stem; `forward` accepts any size.
        stem: "large" (7×7 at stride 2, then pooling), "small" (3×3 at stride 1, no pooling), or "auto" by `image_size`.
        base_width: channels of the first stage, 64 in the paper. It scales the whole network; 16 suits studies on a
            CPU.
        channels: channels of the images.
        zero_init_residual: whether every block starts as the identity. Set False to follow MoCo v1 and v2 exactly.
        weights: a file for `load_weights`. None starts from random weights.
        weights_prefix: prefix of the network's parameter names in that file. None searches for the prefix.

    Raises:
        InputError: for an unknown name or stem, a width or size below 1, or a `base_width` too narrow for the groups.

    Source: He et al., CVPR 2016, arXiv 1512.03385. The small stem is SimCLR's for CIFAR (arXiv 2002.05709, appendix B).
    The code of SimCLR, SimSiam, Barlow Twins and MoCo v3 starts the last norm of every block at zero; the code of MoCo
    v1 and v2 does not.

    Example:
        >>> net = ResNet("resnet18", image_size=32, base_width=16)
        >>> net.stem, net.width, net(torch.zeros(2, 3, 32, 32)).shape
        ('small', 128, torch.Size([2, 128]))
    """

    @checked
    def __init__(
        self,
        name: str = "resnet18",
        image_size: int = 224,
        stem: Literal["auto", "small", "large"] = "auto",
        base_width: int = 64,
        channels: int = 3,
        zero_init_residual: bool = True,
        weights: str | Path | None = None,
        weights_prefix: str | None = None,
    ) -> None:
        plan = _plan(name, require_positive("ResNet", "base_width", base_width))
        super().__init__(8 * base_width * plan.block.expansion, channels, image_size)
        self.name, self.base_width = name, base_width
        self.stem = choose_stem(stem, image_size)
        small = self.stem == "small"
        self.conv1 = nn.Conv2d(channels, base_width, *((3, 1, 1) if small else (7, 2, 3)), bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        expansion = plan.block.expansion
        self.layer1 = _stage(plan, 0, base_width, base_width)
        self.layer2 = _stage(plan, 1, base_width * expansion, 2 * base_width)
        self.layer3 = _stage(plan, 2, 2 * base_width * expansion, 4 * base_width)
        self.layer4 = _stage(plan, 3, 4 * base_width * expansion, 8 * base_width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity()
        _initialise(self, zero_init_residual)
        if weights is not None:
            load_weights(self, weights, prefix=weights_prefix)

    def forward(self, images: Float[Tensor, "b c height width"]) -> Float[Tensor, "b d"]:
        if self.base_width < 16 and images.device.type == "cpu":
            # torch 2.15 on a CPU can crash in the backward pass of such a narrow 1x1 convolution in channels_last.
            # clone, not contiguous(): with one channel torch calls both layouts contiguous, but convolutions choose
            # their layout by the strides.
            images = images.clone(memory_format=torch.contiguous_format)
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        features: Tensor = self.fc(torch.flatten(self.avgpool(maps), 1))
        return features

    def describe(self) -> dict[str, Any]:
        arguments = {
            "name": self.name,
            "image_size": self.image_size,
            "stem": self.stem,
            "base_width": self.base_width,
            "channels": self.channels,
        }
        card = self._card("torchvision", self.name, self.stem, arguments, self._rebuild(arguments))
        return card | {"base_width": self.base_width}

    def _rebuild(self, arguments: dict[str, Any]) -> list[str]:
        if self.base_width != 64:  # torchvision's constructors have no argument for it
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            return ["import contrast.models", f"net = contrast.models.ResNet({given})"]
        lines = ["import torch, torchvision", f"net = torchvision.models.{self.name}()", "net.fc = torch.nn.Identity()"]
        if self.stem == "small":
            lines.append(f"net.conv1 = torch.nn.Conv2d({self.channels}, 64, 3, 1, 1, bias=False)")
            lines.append("net.maxpool = torch.nn.Identity()")
        elif self.channels != 3:
            lines.append(f"net.conv1 = torch.nn.Conv2d({self.channels}, 64, 7, 2, 3, bias=False)")
        return lines


def choose_stem(stem: str, image_size: int) -> Literal["small", "large"]:
    """Choose the stem by image size: "auto" means "small" up to 32 pixels and "large" above; other values stay.

    Args:
        stem: "auto", "small" or "large".
        image_size: height and width of the images, in pixels.

    Raises:
        InputError: if `stem` has another value.
    """
    if stem not in ("auto", "small", "large"):
        raise InputError(f"ResNet has no stem {stem!r}{did_you_mean(stem, ['auto', 'small', 'large'])}")
    return "small" if stem == "small" or (stem == "auto" and image_size <= SMALL_IMAGE) else "large"


def _plan(name: str, base_width: int) -> _Plan:
    if name not in _PLANS:
        raise InputError(f"no ResNet named {name!r}{did_you_mean(name, _PLANS)}")
    plan = _PLANS[name]
    narrowest = -(-64 // plan.width_per_group)  # below this width a group would have no channel
    if plan.groups > 1 and base_width < narrowest:
        raise InputError(f"ResNet's base_width {base_width} is too narrow for {name}: give {narrowest} or more")
    return plan


def _stage(plan: _Plan, number: int, inputs: int, planes: int) -> nn.Sequential:
    """Build one of the four stages; every stage but the first halves the resolution in its first block."""
    outputs, stride = planes * plan.block.expansion, 1 if number == 0 else 2
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    groups = {"groups": plan.groups, "base_width": plan.width_per_group}
    first = plan.block(inputs, planes, stride, shortcut, **groups)
    return nn.Sequential(first, *(plan.block(outputs, planes, **groups) for _ in range(1, plan.depths[number])))


def _initialise(network: nn.Module, zero_init_residual: bool) -> None:
    """torchvision's initialisation: He normal by fan-out for convolutions; norms keep torch's one and zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif zero_init_residual and isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif zero_init_residual and isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
