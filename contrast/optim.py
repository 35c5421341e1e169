"""Optimisers (LARS), parameter groups, learning-rate scaling and learning-rate schedules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from contrast.checks import checked
from contrast.errors import InputError, counted, did_you_mean
from contrast.runs.length import RunLength

__all__ = ["LARS", "Constant", "GroupRate", "Schedule", "Steps", "WarmupCosine", "parameter_groups", "scaled_rate"]


class LARS(torch.optim.Optimizer):
    """LARS optimiser: layer-wise adaptive rate scaling, as in SimCLR.

    For a weight w with gradient g, learning rate η, weight decay β, trust coefficient κ and momentum μ::

        d = g + β w
        r = κ ‖w‖ / ‖d‖    (1 where either norm is 0, and in groups with ``adapt`` False)
        v ← μ v + η r d
        w ← w - v

    As in SimCLR, exclude norms and biases from both weight decay and adaptation: pass the groups of `parameter_groups`.

    Args:
        params: parameters or parameter groups. A group may set ``adapt`` to False.
        lr: η. SimCLR uses 0.3 per 256 samples.
        momentum: μ, within [0, 1].
        weight_decay: β. SimCLR uses 1e-6.
        trust_coefficient: κ, above 0.

    Raises:
        InputError: if an argument is outside its range.

    Source: You et al., arXiv 1708.03888, in the form of SimCLR's LARSOptimizer with its "classic momentum" setting
    (arXiv 2002.05709). There the learning rate stands inside the momentum, so that a change of the rate does not change
    the steps already in v. Torch's SGD and MoCo v3's LARS apply the rate after the momentum. You et al. and NVIDIA
    Apex's LARC divide by ‖g‖ + β ‖w‖ instead of ‖g + β w‖. LARC adds 1e-8 to it and by default uses min(r, η) in place
    of η r.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> weight.grad = torch.tensor([[0.0, 2.0]])
        >>> LARS([weight], lr=1.0, trust_coefficient=0.1).step()  # r = 0.1 · 5 / 2
        >>> weight.tolist()
        [[3.0, 3.5]]
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        for name, value, known in (("lr", lr, "0.3"), ("weight_decay", weight_decay, "1e-6")):
            if not value >= 0:
                raise InputError(f"LARS's {name} {value:g} is below 0: give 0 or more (SimCLR: {known})")
        if not 0 <= momentum <= 1:
            raise InputError(f"LARS's momentum {momentum:g} is outside [0, 1]: give for example 0.9 (SimCLR)")
        if not trust_coefficient > 0:
            raise InputError(
                f"LARS's trust_coefficient {trust_coefficient:g} is not above 0: give for example 0.001 (SimCLR)"
            )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one optimiser step.

        Args:
            closure: computes the loss again. It is called before the step, with gradients enabled.

        Returns:
            The result of `closure`, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update all weights of a group with one call per operation; torch's list operations have no public names."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        directions = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        if group["adapt"]:
            torch._foreach_mul_(directions, _trust_ratios(weights, directions, group["trust_coefficient"]))
        for weight in weights:
            if "velocity" not in self.state[weight]:
                self.state[weight]["velocity"] = torch.zeros_like(weight)
        velocities = [self.state[weight]["velocity"] for weight in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, directions, alpha=group["lr"])
        torch._foreach_sub_(weights, velocities)


def _trust_ratios(weights: list[Tensor], directions: list[Tensor], trust_coefficient: float) -> list[Tensor]:
    """Trust ratio r of each weight, as scalars on the device, so that no step needs a synchronisation."""
    norms, lengths = (torch.stack(torch._foreach_norm(each)) for each in (weights, directions))
    ratios = torch.where((norms > 0) & (lengths > 0), trust_coefficient * norms / lengths, torch.ones_like(norms))
    return list(ratios.unbind())


_KINDS = ("weights", "norms_and_biases")


@dataclass(frozen=True)
class GroupRate:
    """Learning rate of a parameter group, relative to the optimiser's learning rate.

    Attributes:
        factor: multiplies the learning rate; finite and at least 0.
        scheduled: whether the rate follows the run's schedule. If False, it keeps its full value for the whole run,
            including the warm-up.

    Raises:
        InputError: if the factor is negative, infinite or not a number.
    """

    factor: float = 1.0
    scheduled: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.factor < math.inf:
            raise InputError(f"the factor {self.factor:g} of a parameter group's rate must be finite and at least 0")


def parameter_groups(module: nn.Module, rates: Mapping[str, GroupRate] | None = None) -> list[dict[str, Any]]:
    """Parameter groups: norms and biases without weight decay and without LARS adaptation.

    The group of norms and biases holds all biases and all parameters with fewer than two dimensions. It has
    ``weight_decay`` 0 and ``adapt`` False. `LARS` reads ``adapt``; other optimisers store and ignore it. The group of
    weights keeps the optimiser's own settings. Parameters that need no gradient are in no group. Without `rates` there
    are always two groups, even if one is empty, so that a checkpoint of the optimiser fits.

    With `rates`, each of the two groups is divided further, into one group per rate, in the order of the parameters.
    These groups also have ``rate_factor`` and ``scheduled``; `contrast.methods.ContrastiveMethod` applies them. If
    several names hold a parameter, their factors are multiplied, and the rate is scheduled only if all of them are
    scheduled.

    Args:
        module: the network with all trained parameters.
        rates: the rate of each group, by its name: ``weights``, ``norms_and_biases``, or the dotted name of a part of
            `module`.

    Raises:
        InputError: for a name that holds no trained parameter.

    Source: SimCLR's code (arXiv 2002.05709) excludes norms and biases from both decay and adaptation. The code of MoCo
    and SimSiam decays them too.

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
    """Scale the learning rate with the batch size: linear, square root or not at all.

    ``rate · b / reference`` (linear), ``rate · √(b / reference)`` (sqrt), or `rate` itself (none)

    Args:
        rate: the learning rate for a batch of `reference` samples.
        batch_size: b, samples per step over all processes.
        rule: how the rate grows with the batch size: ``linear``, ``sqrt`` or ``none``.
        reference: the batch size that `rate` is meant for.

    Raises:
        InputError: for an unknown rule; for a negative rate; for a size below 1.

    Source: linear, Goyal et al., arXiv 1706.02677. SimCLR (arXiv 2002.05709) uses linear scaling at 0.3 per 256
    samples, or 0.075 · √b, which is "sqrt" with a reference of 1.

    Example:
        >>> scaled_rate(0.3, 1024, "linear"), scaled_rate(0.3, 1024, "sqrt")
        (1.2, 0.6)
    """
    if not rate >= 0:
        raise InputError(f"learning rate {rate:g} is below 0: give 0 or more")
    for name, size in (("batch size", batch_size), ("reference batch size", reference)):
        if size < 1:
            raise InputError(f"{name} {size} of the learning rate is not a whole number of at least 1")
    growth = {"linear": batch_size / reference, "sqrt": math.sqrt(batch_size / reference), "none": 1.0}
    if rule not in growth:
        raise InputError(f"unknown rule {rule!r} for scaling the learning rate{did_you_mean(rule, growth)}")
    return rate * growth[rule]


class Schedule(ABC):
    """Base class of learning-rate schedules: the share of the full learning rate at each step.

    A warm-up of W steps rises linearly, ``(step + 1) / (W + 1)``. W is the number of warm-up epochs times the steps per
    epoch, not rounded. The first step already learns, and step W has the full rate. A run that ends sooner never
    reaches the full rate.
    """

    def never_acts(self, run: RunLength) -> str | None:
        """Explain which part of the schedule lies behind the end of the run.

        Returns:
            One sentence without a full stop, or None if the run contains the whole schedule.
        """
        return None

    @abstractmethod
    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """Factor of the learning rate at a step.

        Args:
            step: optimiser steps done so far, from 0. It can equal `total_steps`, after the last step.
            total_steps: optimiser steps of the whole run.
            steps_per_epoch: optimiser steps of one epoch.

        Returns:
            A number within [0, 1].
        """


class Constant(Schedule):
    """Constant learning rate, with an optional warm-up.

    Args:
        warmup_epochs: length of the warm-up in epochs; may be fractional.

    Raises:
        InputError: if warmup_epochs is negative.
    """

    @checked
    def __init__(self, warmup_epochs: float = 0) -> None:
        self.warmup_epochs = _not_negative("Constant", warmup_epochs)

    def never_acts(self, run: RunLength) -> str | None:
        return _long_warm_up("Constant", self.warmup_epochs, run)

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        return _warm_up(step, self.warmup_epochs * steps_per_epoch)


class WarmupCosine(Schedule):
    """Cosine learning-rate schedule with a linear warm-up.

    ``final + (1 - final) ½ (1 + cos π p)`` after the warm-up

    p rises from 0 at the end of the warm-up to 1 at `total_steps`, so the last step comes close to `final`. With
    ``every="epoch"``, all steps of an epoch have the rate of its first step. The warm-up always rises by step.

    Args:
        warmup_epochs: length of the warm-up in epochs; may be fractional.
        final: the factor at the end, within [0, 1].
        every: whether the cosine moves at every ``step`` or at the start of every ``epoch``.

    Raises:
        InputError: if an argument is outside its range.

    Source: Loshchilov and Hutter, arXiv 1608.03983, without restarts; warm-up of 10 epochs as in SimCLR, arXiv
    2002.05709. SimCLR's code starts the warm-up at a rate of 0 and so loses a step. MoCo v2 has no warm-up. The
    authors' code of MoCo v2 (main_moco.py:497-506 at 132aea9) and SimSiam (main_simsiam.py:359-366 at a7bc177) changes
    the rate by epoch. The authors' code of SimCLR, MoCo v3, BYOL, Barlow Twins and VICReg changes it by step.

    Example:
        >>> [round(WarmupCosine(warmup_epochs=1).factor(step, 6, 2), 2) for step in range(7)]
        [0.33, 0.67, 1.0, 0.85, 0.5, 0.15, 0.0]
        >>> [round(WarmupCosine(0, every="epoch").factor(step, 6, 2), 2) for step in range(7)]
        [1.0, 1.0, 0.75, 0.75, 0.25, 0.25, 0.0]
    """

    @checked
    def __init__(self, warmup_epochs: float = 10, final: float = 0.0, every: Literal["step", "epoch"] = "step") -> None:
        self.warmup_epochs = _not_negative("WarmupCosine", warmup_epochs)
        if not 0 <= final <= 1:
            raise InputError(f"WarmupCosine's final {final:g} is outside [0, 1]: it is a share of the full rate")
        if every not in ("step", "epoch"):
            raise InputError(f"WarmupCosine's every is {every!r}{did_you_mean(every, ('step', 'epoch'))}")
        self.final, self.every = final, every

    def never_acts(self, run: RunLength) -> str | None:
        return _long_warm_up("WarmupCosine", self.warmup_epochs, run)

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup or total_steps <= warmup:
            return _warm_up(step, warmup)
        if self.every == "epoch" and step < total_steps:
            step = step // steps_per_epoch * steps_per_epoch
        progress = min(1.0, max(0.0, step - warmup) / (total_steps - warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class Steps(Schedule):
    """Step learning-rate schedule: multiply the rate by a factor at every milestone.

    Args:
        milestones: epochs in rising order; the rate is lower from the start of each.
        factor: multiplies the rate at each milestone, within [0, 1].
        warmup_epochs: length of the warm-up in epochs; may be fractional.

    Raises:
        InputError: if the milestones do not rise from above 0, or another argument is outside its range.

    Source: MoCo v1 (arXiv 1911.05722) multiplies by a tenth at epochs 120 and 160 of 200.

    Example:
        >>> [Steps([2, 3], factor=0.5).factor(step, 8, 2) for step in range(8)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    @checked
    def __init__(self, milestones: Sequence[int], factor: float = 0.1, warmup_epochs: float = 0) -> None:
        self.milestones = tuple(milestones)
        if any(later <= earlier for earlier, later in zip((0, *self.milestones), self.milestones, strict=False)):
            raise InputError(f"Steps' milestones {list(milestones)} must rise, and start above 0: give epochs in order")
        if not 0 <= factor <= 1:
            raise InputError(f"Steps' factor {factor:g} is outside [0, 1]: give for example 0.1 (MoCo)")
        self.drop, self.warmup_epochs = factor, _not_negative("Steps", warmup_epochs)

    def never_acts(self, run: RunLength) -> str | None:
        late = [each for each in self.milestones if each * run.steps_per_epoch >= run.steps]
        if not late:
            return _long_warm_up("Steps", self.warmup_epochs, run)
        return (
            f"Steps has milestones at epochs {', '.join(map(str, late))} and this run has "
            f"{counted(run.epochs, 'epoch')}: the rate will not fall there"
        )

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        passed = sum(step >= milestone * steps_per_epoch for milestone in self.milestones)
        return _warm_up(step, self.warmup_epochs * steps_per_epoch) * self.drop**passed


def _warm_up(step: int, warmup_steps: float) -> float:
    return (step + 1) / (warmup_steps + 1) if step < warmup_steps else 1.0


def _long_warm_up(owner: str, warmup_epochs: float, run: RunLength) -> str | None:
    steps = warmup_epochs * run.steps_per_epoch
    if steps < run.steps:
        return None
    reached = _warm_up(run.steps - 1, steps)
    return (
        f"{owner} warms up for {warmup_epochs:g} epochs and this run has {counted(run.epochs, 'epoch')}: "
        f"the rate will reach {100 * reached:.0f} % of its full value"
    )


def _not_negative(owner: str, warmup_epochs: float) -> float:
    if not warmup_epochs >= 0:
        raise InputError(f"{owner}'s warmup_epochs {warmup_epochs:g} is below 0: give 0 or more")
    return warmup_epochs
