"""SimCLR as lightly's documentation has it: its transform in a loader's workers, its head and loss, a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from torch import Tensor, nn

from benchmarks.plain_loop import Images, PlainLoop
from contrast.models import Backbone

__all__ = ["lightly_run"]


def lightly_run(backbone: Backbone, images: np.ndarray[Any, Any], batch_size: int, channels_last: bool) -> PlainLoop:
    """Steps of lightly's SimCLR.

    Args:
        backbone: the encoder, its own copy.
        images: uint8, (n, size, size, 3).
        batch_size: images a step.
        channels_last: the network and its input in that layout, which lightly's documentation does not have.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = nn.Sequential(
        backbone, nn.Flatten(start_dim=1), SimCLRProjectionHead(backbone.width, backbone.width, 128)
    ).to(memory_format=layout)
    criterion = NTXentLoss(temperature=0.5)

    def loss(batch: Any) -> Tensor:
        first, second = (network(view.contiguous(memory_format=layout)) for view in batch[0])
        found: Tensor = criterion(first, second)
        return found

    transform = SimCLRTransform(input_size=images.shape[1], cj_strength=0.5, gaussian_blur=0.0)
    return PlainLoop(network, Images(images, transform), batch_size, loss)
