"""Parameter groups for an optimiser, their rates, and the rate for a batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from contrast.errors import InputError, did_you_mean

__all__ = ["GroupRate", "parameter_groups", "scaled_rate"]

_KINDS = ("weights", "norms_and_biases")


@dataclass(frozen=True)
class GroupRate:
    """The learning rate of a group of parameters, relative to the optimiser's rate.

    Attributes:
        factor: multiplies the rate; finite and at least 0.
        scheduled: whether the rate follows the run's schedule; if not, it stays at its full value for the whole run,
            warm-up included.

    Raises:
        InputError: for a factor that is negative, infinite or not a number.
    """

    factor: float = 1.0
    scheduled: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.factor < math.inf:
            raise InputError(f"the factor {self.factor:g} of a group's rate must be finite and at least 0")


def parameter_groups(module: nn.Module, rates: Mapping[str, GroupRate] | None = None) -> list[dict[str, Any]]:
    """Parameter groups: weights with the optimiser's own settings, norms and biases without decay and adaptation.

    Norms and biases are all biases and all parameters of fewer than two dimensions; their groups have ``weight_decay``
    0 and ``adapt`` False. `LARS` reads ``adapt``; other optimisers keep it and ignore it. Parameters without gradient
    are in no group. Without `rates` there are always two groups, even if one is empty, so that a checkpoint of the
    optimiser fits.

    `rates` divides these two groups further, one group for each rate, in the order of the parameters. Such groups also
    have ``rate_factor`` and ``scheduled``; `contrast.methods.ContrastiveMethod` applies them. Where several names hold
    a parameter, the factors are multiplied, and the rate is scheduled only if all of them say so.

    Source: SimCLR's code (arXiv 2002.05709) excludes norms and biases from both; the code of MoCo and SimSiam decays
    them too.

    Args:
        module: the network, with all that is trained.
        rates: by a group's name: ``weights``, ``norms_and_biases``, or the dotted name of a part of `module`.

    Raises:
        InputError: for a name that holds no trained parameter.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        >>> weights, others = parameter_groups(network)
        >>> len(weights["params"]), len(others["params"])
        (1, 3)
        >>> _, others = parameter_groups(network, {"norms_and_biases": GroupRate(factor=0.1)})
        >>> others["rate_factor"], others["scheduled"]
        (0.1, True)
    """
    trained = [(name, each) for name, each in module.named_parameters() if each.requires_grad]
    plain = {name for name, each in trained if each.ndim < 2 or name.rpartition(".")[2] == "bias"}
    kinds: tuple[dict[str, Any], ...] = ({}, {"weight_decay": 0.0, "adapt": False})
    if not rates:
        return [
            {"params": [each for name, each in trained if (name in plain) == is_plain], **settings}
            for is_plain, settings in enumerate(kinds)
        ]
    groups: dict[tuple[bool, float, bool], dict[str, Any]] = {}
    found: set[str] = set()
    for is_plain, settings in enumerate(kinds):
        for name, each in trained:
            if (name in plain) != is_plain:
                continue
            holding = [of for of in rates if of == _KINDS[is_plain] or of == name or name.startswith(f"{of}.")]
            found.update(holding)
            factor = math.prod(rates[of].factor for of in holding)
            scheduled = all(rates[of].scheduled for of in holding)
            empty = {"params": [], **settings, "rate_factor": factor, "scheduled": scheduled}
            groups.setdefault((bool(is_plain), factor, scheduled), empty)["params"].append(each)
    for name in rates:
        if name not in found:
            known = [*_KINDS, *dict.fromkeys(each.partition(".")[0] for each, _ in trained)]
            raise InputError(f"rates: {name!r} holds no trained parameter{did_you_mean(name, known)}")
    return list(groups.values())


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
