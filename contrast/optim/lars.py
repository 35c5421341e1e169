"""LARS: a learning rate for each layer, so that batches can be large."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from contrast.arguments import checked
from contrast.errors import InputError

__all__ = ["LARS"]


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling, as SimCLR has it.

    Equation, for a weight w with gradient g, rate η, decay β, trust coefficient κ and momentum μ::

        d = g + β w
        r = κ ‖w‖ / ‖d‖    (1 where either norm is 0, and in groups with ``adapt`` False)
        v ← μ v + η r d
        w ← w - v

    Source: You et al., arXiv 1708.03888; the form is that of SimCLR's LARSOptimizer in its "classic momentum" setting
    (arXiv 2002.05709). There the rate stands inside the momentum, so that a change of rate leaves the steps already in
    v as they are; torch's SGD and MoCo v3's LARS apply the rate after the momentum. You et al. and NVIDIA Apex's LARC
    divide by ‖g‖ + β ‖w‖ instead of ‖g + β w‖; LARC adds 1e-8 to it and by default takes min(r, η) for η r. Norms and
    biases are to be left out of both decay and adaptation, as in SimCLR: give it `parameter_groups`.

    Args:
        params: parameters or groups; a group may set ``adapt`` to False.
        lr: η; SimCLR's is 0.3 per 256 samples.
        momentum: μ, within [0, 1].
        weight_decay: β; SimCLR's is 1e-6.
        trust_coefficient: κ.

    Raises:
        InputError: where an argument is outside its range.

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
                raise InputError(f"LARS's {name} {value:g} is below 0; SimCLR's is {known}")
        if not 0 <= momentum <= 1:
            raise InputError(f"LARS's momentum {momentum:g} is outside [0, 1]; SimCLR's is 0.9")
        if not trust_coefficient > 0:
            raise InputError(f"LARS's trust_coefficient {trust_coefficient:g} is not above 0; SimCLR's is 0.001")
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
        """One step; returns what `closure` does, which is called first, with gradients on."""
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
        """One call an operation for all weights of a group; the list forms have no public names."""
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
    """A scalar for each weight, on the device: no step waits for it."""
    norms, lengths = (torch.stack(torch._foreach_norm(each)) for each in (weights, directions))
    ratios = torch.where((norms > 0) & (lengths > 0), trust_coefficient * norms / lengths, torch.ones_like(norms))
    return list(ratios.unbind())
