"""Linear probe: multinomial logistic regression; all L2 strengths are fitted together by batched L-BFGS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.evaluation.labels import held_out_split

__all__ = ["FALLBACK", "GRID", "Evaluate", "LinearProbe", "fit_grid", "fit_linear", "minimise_each", "train_probe"]

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from positions (a, p) and the numbers of their functions (a,) to values (a,) and gradients (a, p)."""

_HISTORY, _MOST, _TRIES = 12, 1000, 25
_DECREASE = 1e-4


def minimise_each(
    evaluate: Evaluate,
    start: Float[Tensor, "k p"],
    curvature: Float[Tensor, "k p"],
    tolerance: float,
) -> tuple[Float[Tensor, "k p"], Float[Tensor, " k"]]:
    """Minimise k convex functions at once by batched L-BFGS, with initial inverse Hessian H₀ = γ / curvature.

    Each function has its own history, step length and stopping point. A function that has converged is not evaluated
    again.

    Args:
        evaluate: values and gradients of some of the functions, at one position each.
        start: start position of each function, (k, p).
        curvature: diagonal of a matrix that is roughly at least as large as each function's second derivative, (k, p),
            above 0. The ratios between its entries reduce the number of steps.
        tolerance: a function has converged when the largest entry of its gradient is at most this.

    Returns:
        The positions, (k, p), and the largest absolute entry of the gradient at each, (k,).

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
        scale = torch.where((new - position).abs().amax(dim=1) > 1e-4 * tolerance, scale, 0)  # stop at rounding error
        position, value, gradient = new, new_value, new_gradient
    return found, slope


class _Steps:
    """L-BFGS history: the last steps of each function and the changes of its gradient; `inverse` is H₀ without γ."""

    def __init__(self, inverse: Tensor) -> None:
        self.inverse, self.gamma = inverse, inverse.new_ones(len(inverse))
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y, 1 / sᵀy; 0 for a pair without curvature

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
    """Backtracking line search from a step length of 1; the step length is 0 where no step decreases the function."""
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
        # The zero of the slope by linear interpolation.
        scale[tried] *= (slope[tried] / (slope[tried] - its_slope)).nan_to_num(0.5).clamp(0.1, 0.5)
    return new, new_value, new_gradient, done


GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""L2 strengths λ to choose from, strongest first."""
FALLBACK = 1e-2
"""L2 strength λ where each class has one label, so that no sample can be held out."""

_COLUMNS = 1024  # largest number of logits per sample, over all classifiers that are fitted together
_TILE = 2**24  # logits per block
_SPAN = 1e-12  # eigenvalues below this share of the largest are rounding error

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Linear classifier of standardised features: logits = W (x − mean) / scale + b.

    Attributes:
        weight: W, (classes, d).
        bias: b, (classes,).
        mean: mean of the features of the fit, (d,).
        scale: standard deviation of the features of the fit, (d,); 1 where a feature is constant.
        strength: λ of the fit.
        held_out_accuracy: accuracy on the held-out samples at that λ; None where no samples were held out.
    """

    weight: Float[Tensor, "classes d"]
    bias: Float[Tensor, " classes"]
    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    strength: float
    held_out_accuracy: float | None = None

    @checked
    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Class logits, (n, classes)."""
        return F.linear((features - self.mean) / self.scale, self.weight, self.bias)

    @checked
    def accuracy(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
        """Top-1 accuracy: share of the samples whose largest logit is that of their class."""
        return float((self.logits(features).argmax(dim=1) == labels).double().mean())


@checked
def train_probe(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    seed: int,
    grid: Sequence[float] = GRID,
) -> LinearProbe:
    """Train a linear probe, with the L2 strength λ chosen on held-out training samples.

    A stratified fifth of the samples is held out to choose λ by accuracy; the final fit uses all samples. The function
    sees only training samples, so nothing can be chosen on test data. Among λ of equal accuracy, the strongest is
    chosen.

    Args:
        features: features of the training samples whose labels may be used, (n, d).
        labels: their classes, 0 to classes − 1, (n,).
        classes: number of classes.
        seed: seed of the held-out split; the fit itself is deterministic.
        grid: λ to choose from.

    Raises:
        InputError: where a label is not a class, a feature is not finite, `classes` is below 1, or the grid is empty.
    """
    if classes < 1:
        raise InputError(f"train_probe's classes {classes} is below 1: give the number of classes of the labels")
    fit, held = held_out_split(labels.cpu(), seed)
    if len(held) == 0:
        return fit_linear(features, labels, classes, FALLBACK)
    fit, held = fit.to(labels.device), held.to(labels.device)
    best = probe = None
    strengths = sorted(grid, reverse=True)
    together = max(1, _COLUMNS // classes)
    for first in range(0, len(strengths), together):  # warm start from the last fit of the block before
        probes = fit_grid(features[fit], labels[fit], classes, strengths[first : first + together], probe)
        for probe in probes:
            accuracy = probe.accuracy(features[held], labels[held])
            if best is None or accuracy > best[0]:
                best = (accuracy, probe)
    if best is None:
        raise InputError("the grid of strengths is empty: give at least one")
    return fit_linear(features, labels, classes, best[1].strength, start=best[1], held_out_accuracy=best[0])


@checked
def fit_linear(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    strength: float,
    start: LinearProbe | None = None,
    held_out_accuracy: float | None = None,
    tolerance: float = 1e-5,
) -> LinearProbe:
    """Fit multinomial logistic regression with an L2 penalty by full-batch L-BFGS, on standardised features.

    ``minimise mean_i CE(W x_i + b, y_i) + λ/2 ‖W‖²``, x standardised

    The minimum is scikit-learn's at C = 1 / (λ n). The bias is not penalised. L-BFGS starts with the curvature bound
    ½ XᵀX / n + λ, and works in the principal axes of that bound.

    Args:
        features: float32 or float64, (n, d); the fit keeps dtype and device.
        labels: classes, 0 to classes − 1, (n,).
        classes: number of classes.
        strength: λ, above 0.
        start: start of the optimisation; None starts at zero. The minimum does not depend on it.
        held_out_accuracy: stored in the result.
        tolerance: the fit has converged when the largest entry of the objective's gradient is at most this.

    Raises:
        InputError: where a label is not a class, a feature is not finite, or λ is not above 0.

    Source: Liu and Nocedal, On the Limited Memory BFGS Method (Mathematical Programming 1989); the curvature bound is
    from Böhning, Multinomial logistic regression algorithm (Ann. Inst. Statist. Math. 1992).

    Example:
        >>> probe = fit_linear(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, strength=0.1)
        >>> probe.accuracy(torch.tensor([[-3.0], [0.5]]), torch.tensor([0, 1]))
        1.0
    """
    (probe,) = fit_grid(features, labels, classes, [strength], start, tolerance)
    return replace(probe, held_out_accuracy=held_out_accuracy)


@checked
def fit_grid(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    strengths: Sequence[float],
    start: LinearProbe | None = None,
    tolerance: float = 1e-5,
) -> list[LinearProbe]:
    """Fit linear probes at several L2 strengths together.

    The result equals `fit_linear` at each strength; every pass over the features serves all fits.

    Args:
        features: float32 or float64, (n, d); the fits keep dtype and device.
        labels: classes, 0 to classes − 1, (n,).
        classes: number of classes.
        strengths: λ of each fit, above 0.
        start: start of all fits; None starts at zero. The minima do not depend on it.
        tolerance: a fit has converged when the largest entry of its objective's gradient is at most this.

    Raises:
        InputError: where a label is not a class, a feature is not finite, or a λ is not above 0.
    """
    _check(features, labels, classes, strengths)
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1)
    inputs = (features - mean) / scale
    # In the principal axes of the inputs the curvature is almost diagonal: at most that of ½ XᵀX / n.
    spread, axes = _principal_axes(inputs)
    turned = inputs @ axes
    penalty = inputs.new_tensor(strengths)[:, None].expand(-1, axes.shape[1])
    penalty = F.pad(penalty, (0, 1))[:, None]  # (strengths, 1, axes + 1)
    first = inputs.new_zeros(classes, axes.shape[1] + 1)
    if start is not None:
        first = torch.cat([start.weight @ axes, start.bias[:, None]], dim=1)
    curvature = F.pad(0.5 * spread, (0, 1), value=0.5) + penalty
    found, slopes = minimise_each(
        lambda position, which: _cross_entropies(turned, labels, position.view(-1, *first.shape), penalty[which]),
        first.flatten().expand(len(strengths), -1),
        curvature.expand(-1, classes, -1).flatten(1),
        tolerance,
    )
    for strength, slope in zip(strengths, slopes.tolist(), strict=True):
        if slope > 1e-3:
            _log.warning("the probe with strength %g stopped short of its minimum: slope %.1g", strength, slope)
    weights = found.view(-1, *first.shape)
    return [
        LinearProbe(weight[:, :-1] @ axes.T, weight[:, -1].clone(), mean, scale, strength)
        for strength, weight in zip(strengths, weights, strict=True)
    ]


def _principal_axes(inputs: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " r"], Float[Tensor, "d r"]]:
    """Eigenvalues and eigenvectors of XᵀX / n.

    With fewer samples than features, only those in X's row space are returned. The penalised W has no component outside
    the row space. So r is at most n, and an n x n matrix is decomposed instead.
    """
    count, width = inputs.shape
    if count >= width:
        spread, axes = torch.linalg.eigh((inputs.T @ inputs).double() / count)
        return spread.clamp(min=0).to(inputs), axes.to(inputs)
    rows = inputs.double()
    spread, sides = torch.linalg.eigh(rows @ rows.T / count)
    kept = spread > _SPAN * spread[-1]
    spread, sides = spread[kept], sides[:, kept]
    return spread.to(inputs), (rows.T @ (sides / (count * spread).sqrt())).to(inputs)


def _cross_entropies(
    inputs: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    weights: Float[Tensor, "k classes d+1"],
    penalty: Float[Tensor, "k 1 d+1"],
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
    """Mean cross entropy plus L2 penalty of k classifiers, and its gradient.

    The last column of `weights` is the bias.
    """
    k, classes, _ = weights.shape
    stacked, bias = weights[..., :-1].flatten(0, 1), weights[..., -1].flatten()
    value = 0.5 * (penalty * weights.square()).sum(dim=(1, 2))
    slopes, slopes_of_bias = torch.zeros_like(stacked), torch.zeros_like(bias)
    rows = max(1, _TILE // len(stacked))
    for part, own in zip(torch.split(inputs, rows), torch.split(labels, rows), strict=True):
        chances = torch.log_softmax(torch.addmm(bias, part, stacked.T).view(-1, k, classes), dim=2)
        place = own[:, None, None].expand(-1, k, 1)
        value -= chances.gather(2, place)[..., 0].sum(dim=0) / len(inputs)
        chances.exp_().scatter_add_(2, place, chances.new_full((len(part), k, 1), -1.0))
        slopes.addmm_(chances.flatten(1).T, part, alpha=1 / len(inputs))
        slopes_of_bias += chances.flatten(1).sum(dim=0) / len(inputs)
    gradient = torch.cat([slopes, slopes_of_bias[:, None]], dim=1).view_as(weights) + penalty * weights
    return value, gradient.flatten(1)


def _check(features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float]) -> None:
    for strength in (each for each in strengths if not each > 0):
        raise InputError(f"a strength of {strength} leaves no minimum for separable features: give one above 0")
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"{len(labels)} labels for {classes} classes: give labels from 0 to {classes - 1}")
    if not torch.isfinite(features).all():
        raise InputError("the features hold NaN or infinity: check the checkpoint they were computed with")
