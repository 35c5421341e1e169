"""Several convex functions minimised side by side: L-BFGS whose every evaluation serves all of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Evaluate", "minimise_each"]

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From positions (a, p) and which of the functions they are of (a,) to values (a,) and gradients (a, p)."""

_HISTORY, _MOST, _TRIES = 12, 1000, 25
_DECREASE = 1e-4


def minimise_each(
    evaluate: Evaluate,
    start: Float[Tensor, "k p"],
    curvature: Float[Tensor, "k p"],
    tolerance: float,
) -> tuple[Float[Tensor, "k p"], Float[Tensor, " k"]]:
    """The minimum of each of k convex functions, by L-BFGS with H₀ = γ / curvature.

    Each has its own history, step and end; one that has ended is evaluated no more.

    Args:
        evaluate: values and gradients of some of the functions, at a position each.
        start: where each begins.
        curvature: the diagonal of a matrix that is at least about as large as each function's second derivative, above
            0. What it says of the directions' ratios is what saves steps.
        tolerance: the largest entry of a gradient at which a function's fit is done.

    Returns:
        The positions, and the largest entry of the gradient at each.

    Source: Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4; the step is accepted as in Hager and
    Zhang, A new conjugate gradient method with guaranteed descent (SIAM J. Optim. 2005), eq. 4.1 and 4.3, which
    rounding does not mislead near a minimum.
    """
    found, slope = start.clone(), start.new_zeros(len(start))
    rows = torch.arange(len(start), device=start.device)
    position, scale, steps = start, start.new_ones(len(start)), _Steps(1 / curvature)
    value, gradient = evaluate(position, rows)
    for _ in range(_MOST):
        found[rows], slope[rows] = position, gradient.abs().amax(dim=1)
        going = (slope[rows] > tolerance) & (scale > 0)
        if not going.any():
            break
        if not going.all():
            rows, position, value, gradient = (each[going] for each in (rows, position, value, gradient))
            steps.keep(going)
        direction = steps.direction(gradient)
        new, new_value, new_gradient, scale = _search(evaluate, rows, position, value, gradient, direction)
        steps.add(new - position, new_gradient - gradient)
        scale = torch.where((new - position).abs().amax(dim=1) > 1e-4 * tolerance, scale, 0)  # else rounding has it
        position, value, gradient = new, new_value, new_gradient
    return found, slope


class _Steps:
    """The last steps of each function and what they did to its gradient; `inverse` is H₀ without γ."""

    def __init__(self, inverse: Tensor) -> None:
        self.inverse, self.gamma = inverse, inverse.new_ones(len(inverse))
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y, 1 / sᵀy; 0 for a pair that says nothing

    def keep(self, which: Tensor) -> None:
        self.inverse, self.gamma = self.inverse[which], self.gamma[which]
        self.pairs = [(s[which], y[which], rho[which]) for s, y, rho in self.pairs]

    def add(self, step: Tensor, change: Tensor) -> None:
        along = (step * change).sum(dim=1)
        told = along > torch.finfo(along.dtype).eps * step.norm(dim=1) * change.norm(dim=1)
        self.pairs.append((step, change, torch.where(told, 1 / along, 0)))
        del self.pairs[:-_HISTORY]
        weighed = (change.square() * self.inverse).sum(dim=1)
        self.gamma = torch.where(told, along / weighed, self.gamma)

    def direction(self, gradient: Tensor) -> Tensor:
        rest, shares = gradient, []
        for step, change, rho in reversed(self.pairs):
            shares.append(rho * (step * rest).sum(dim=1))
            rest = rest - shares[-1][:, None] * change
        rest = self.gamma[:, None] * self.inverse * rest
        for (step, change, rho), share in zip(self.pairs, reversed(shares), strict=True):
            rest = rest + (share - rho * (change * rest).sum(dim=1))[:, None] * step
        downhill = (rest * gradient).sum(dim=1, keepdim=True) > 0
        return -torch.where(downhill, rest, self.inverse * gradient)


def _search(
    evaluate: Evaluate,
    rows: Int[Tensor, " a"],
    position: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Go along each direction by 1, or by less where that does not lead down; a scale of 0 where nothing does."""
    new, new_value, new_gradient = position.clone(), value.clone(), gradient.clone()
    scale, done = torch.ones_like(value), torch.zeros_like(value)
    slope = (gradient * direction).sum(dim=1)
    rounding = 1e-6 * value.abs() if value.dtype == torch.float32 else 1e-14 * value.abs()
    tried = torch.arange(len(rows), device=rows.device)
    for _ in range(_TRIES):
        there = position[tried] + scale[tried, None] * direction[tried]
        its_value, its_gradient = evaluate(there, rows[tried])
        its_slope = (its_gradient * direction[tried]).sum(dim=1)
        lower = its_value <= value[tried] + _DECREASE * scale[tried] * slope[tried]
        near = (its_slope <= (2 * _DECREASE - 1) * slope[tried]) & (its_value <= value[tried] + rounding[tried])
        good = lower | near
        taken = tried[good]
        new[taken], new_value[taken], new_gradient[taken] = there[good], its_value[good], its_gradient[good]
        done[taken] = scale[taken]
        if good.all():
            break
        tried, its_slope = tried[~good], its_slope[~good]
        # Where the slope would be 0, were it to change evenly.
        scale[tried] *= (slope[tried] / (slope[tried] - its_slope)).nan_to_num(0.5).clamp(0.1, 0.5)
    return new, new_value, new_gradient, done
