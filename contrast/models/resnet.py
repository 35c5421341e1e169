"""torchvision's residual networks, at any width and with a stem that suits the image size."""

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
"""Pixels up to which "auto" is the small stem: the large one and the stages leave ceil(size / 32) positions a side."""


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
    """A residual network without its classifier; features are the globally averaged last stage.

    Built of torchvision's blocks under torchvision's names: at `base_width` 64, 3 channels and the large stem its state
    is that of torchvision's network of the same name whose `fc` is an Identity.

    Source: He et al., CVPR 2016, arXiv 1512.03385. The small stem (3×3 at stride 1, no pooling) is SimCLR's for CIFAR
    (arXiv 2002.05709, appendix B). "auto" takes it up to 32 pixels, as SimCLR's code does: there the large stem leaves
    one position to the last stage. Above that a step with the small stem computes about 16 times as much; ask for it by
    ``stem: small`` where small details matter, as is often done for Tiny ImageNet's 64 pixels. SimCLR's, SimSiam's,
    Barlow Twins' and MoCo v3's code start the last norm of every block at zero; MoCo v1's and v2's do not.

    Args:
        name: torchvision's name, say resnet18, resnet50, resnext50_32x4d or wide_resnet50_2.
        image_size: height and width of the images, in pixels; chooses the stem, any size can be given to `forward`.
        stem: "large" (7×7 at stride 2, then pooling), "small", or "auto" by `image_size`.
        base_width: channels of the first stage, 64 in the paper; scales the whole network (16 for studies on a CPU).
        channels: channels of the images.
        zero_init_residual: start every block as the identity; False for MoCo v1 and v2 to the letter.
        weights: a file for `load_weights`; None to start at random.
        weights_prefix: what stands before the network's names in that file; None to look for it.

    Raises:
        InputError: for an unknown name or stem, a width or size below 1, a `base_width` too narrow for the groups.

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
            # torch 2.15 on a CPU can crash in the backward pass of so narrow a 1x1 convolution in channels_last.
            # A copy: of one channel torch calls both layouts contiguous, and convolutions go by the strides.
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
        if self.base_width != 64:  # torchvision's constructors have no such argument
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
    """The stem that "auto" stands for at this image size: small up to 32 pixels; the others stand for themselves.

    Raises:
        InputError: for any other word.
    """
    if stem not in ("auto", "small", "large"):
        raise InputError(f"ResNet has no stem {stem!r}{did_you_mean(stem, ['auto', 'small', 'large'])}")
    return "small" if stem == "small" or (stem == "auto" and image_size <= SMALL_IMAGE) else "large"


def _plan(name: str, base_width: int) -> _Plan:
    if name not in _PLANS:
        raise InputError(f"no ResNet named {name!r}{did_you_mean(name, _PLANS)}")
    plan = _PLANS[name]
    narrowest = -(-64 // plan.width_per_group)  # below it a group would have no channel
    if plan.groups > 1 and base_width < narrowest:
        raise InputError(f"ResNet's base_width {base_width} is too narrow for {name}: give {narrowest} or more")
    return plan


def _stage(plan: _Plan, number: int, inputs: int, planes: int) -> nn.Sequential:
    """One of the four stages; all but the first halve the resolution in their first block."""
    outputs, stride = planes * plan.block.expansion, 1 if number == 0 else 2
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    groups = {"groups": plan.groups, "base_width": plan.width_per_group}
    first = plan.block(inputs, planes, stride, shortcut, **groups)
    return nn.Sequential(first, *(plan.block(outputs, planes, **groups) for _ in range(1, plan.depths[number])))


def _initialise(network: nn.Module, zero_init_residual: bool) -> None:
    """torchvision's: He's normal by fan-out for convolutions; norms start at one and zero by themselves."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif zero_init_residual and isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif zero_init_residual and isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
