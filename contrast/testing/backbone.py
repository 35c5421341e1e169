"""Check of backbones."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch

from contrast.checks import checked
from contrast.models import Backbone
from contrast.testing.assertions import prepared, require, same

__all__ = ["check_backbone"]


@checked
def check_backbone(backbone: Backbone, shape: Sequence[int]) -> None:
    """Check a backbone: shapes, gradient to each parameter, and features that do not depend on the batch.

    Args:
        backbone: the backbone.
        shape: shape of one sample, channels first, such as (3, 32, 32).

    Raises:
        AssertionError: for the first property that does not hold.

    Example:
        >>> from contrast.models import ConvNet
        >>> check_backbone(ConvNet((4, 8), channels=1), (1, 16, 16))
    """
    name = type(backbone).__name__
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    backbone = prepared(backbone, lambda made: made.eval()(images), double=False)
    require(
        (backbone.channels, backbone.axes) == (shape[0], len(shape) - 1),
        f"{name} has channels={backbone.channels} and axes={backbone.axes}, and the samples have shape {tuple(shape)}: "
        "set channels in super().__init__ and axes on the class (2 for images, 1 for series)",
    )
    with torch.no_grad():
        features = backbone(images)
        require(
            tuple(features.shape) == (4, backbone.width),
            f"{name} gives features of shape {tuple(features.shape)} for 4 samples, and its width is {backbone.width}: "
            "give (b, width)",
        )
        require(
            features.dtype == torch.float32 and backbone.double()(images.double()).dtype == torch.float64,
            f"{name} changes the dtype of its input (float32 becomes {features.dtype}): a usual cause is a constant of "
            "another dtype",
        )
        backbone.float()
        for order in ([2], [3, 1, 0, 2]):
            same(
                backbone(images[order]),
                features[order],
                f"{name} in eval mode gives a sample other features in another batch, by {{:.2g}}: a usual cause is a "
                "statistic over the batch",
                tolerance=1e-4,
            )
    backbone.train()
    trained = backbone(images)
    trained.square().sum().backward()
    untouched = [key for key, each in backbone.named_parameters() if each.requires_grad and each.grad is None]
    require(
        bool(trained.isfinite().all()) and not untouched,
        f"{name} has parameters without gradient ({', '.join(untouched[:3]) or 'none'}) or features that are not "
        "finite: use every parameter in forward, because DistributedDataParallel waits for each gradient",
    )
    try:
        card = json.loads(json.dumps(backbone.describe()))
    except TypeError as error:
        raise AssertionError(f"{name}.describe() is not JSON ({error}): give texts, numbers and lists") from error
    missing = {"library", "architecture", "width", "channels", "class_path", "init_args", "rebuild"} - card.keys()
    require(not missing, f"{name}.describe() lacks {', '.join(sorted(missing))}: Backbone.describe lists the keys")
