"""What an optimiser is given: which parameters decay, and the rate for a batch size."""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import nn

from contrast.errors import InputError, did_you_mean

__all__ = ["parameter_groups", "scaled_rate"]


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Two groups: weights, which take the optimiser's own settings; norms and biases, without decay and adaptation.

    The second holds every bias and every parameter of fewer than two dimensions, with ``weight_decay`` 0 and ``adapt``
    False; `LARS` reads the latter, other optimisers keep it and take no notice. Parameters that ask for no gradient
    are in neither. There are always two groups, if an empty one, so that a checkpoint of the optimiser fits.

    Source: SimCLR's code (arXiv 2002.05709) leaves norms and biases out of both; MoCo's code decays them too.

    Args:
        module: the network, with all that is trained.

    Example:
        >>> weights, others = parameter_groups(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
        >>> len(weights["params"]), len(others["params"])
        (1, 3)
    """
    trained = [(name, each) for name, each in module.named_parameters() if each.requires_grad]
    plain = {name for name, each in trained if each.ndim < 2 or name.rpartition(".")[2] == "bias"}
    return [
        {"params": [each for name, each in trained if name not in plain]},
        {"params": [each for name, each in trained if name in plain], "weight_decay": 0.0, "adapt": False},
    ]


def scaled_rate(rate: float, batch_size: int, rule: Literal["linear", "sqrt", "none"], reference: int = 256) -> float:
    """The learning rate for a batch size: ``rate · b / reference``, ``rate · √(b / reference)``, or `rate` itself.

    Source: linear, Goyal et al., arXiv 1706.02677; SimCLR (arXiv 2002.05709) has linear at 0.3 per 256, or 0.075 · √b,
    which is "sqrt" with a reference of 1.

    Args:
        rate: the rate for a batch of `reference`.
        batch_size: b, samples a step over all processes.
        rule: how the rate grows with it.
        reference: the batch size that `rate` is meant for.

    Raises:
        InputError: for an unknown rule, a negative rate, or a size below 1.

    Example:
        >>> scaled_rate(0.3, 1024, "linear"), scaled_rate(0.3, 1024, "sqrt")
        (1.2, 0.6)
    """
    if not rate >= 0:
        raise InputError(f"learning rate {rate:g} is below 0")
    for name, size in (("batch size", batch_size), ("reference batch size", reference)):
        if size < 1:
            raise InputError(f"{name} {size} of the learning rate is not a whole number from 1 up")
    growth = {"linear": batch_size / reference, "sqrt": math.sqrt(batch_size / reference), "none": 1.0}
    if rule not in growth:
        raise InputError(f"no rule {rule!r} to scale the learning rate by{did_you_mean(rule, growth)}")
    return rate * growth[rule]
