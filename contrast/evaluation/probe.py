"""The linear probe: multinomial logistic regression on frozen features, its strength chosen on held-out train data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from contrast.errors import InputError
from contrast.evaluation.labels import held_out_split

__all__ = ["FALLBACK", "GRID", "LinearProbe", "fit_linear", "train_probe"]

GRID = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""L2 strengths to choose from, strongest first."""
FALLBACK = 1e-2
"""The strength where one label a class leaves none to hold out."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier of standardised features: logits = W (x − mean) / scale + b.

    Args:
        weight: W.
        bias: b.
        mean: mean of the features it was fitted on.
        scale: their standard deviation, 1 where a feature is constant.
        strength: λ of the fit.
        held_out_accuracy: at that strength on the held-out samples; None where nothing was held out.
    """

    weight: Float[Tensor, "classes d"]
    bias: Float[Tensor, " classes"]
    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    strength: float
    held_out_accuracy: float | None = None

    def logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """One logit a class."""
        return F.linear((features - self.mean) / self.scale, self.weight, self.bias)

    def accuracy(self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> float:
        """Share of the samples whose largest logit is their class."""
        return float((self.logits(features).argmax(dim=1) == labels).double().mean())


def train_probe(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    seed: int,
    grid: Sequence[float] = GRID,
) -> LinearProbe:
    """Choose λ by accuracy on a stratified held-out fifth of these samples, then fit on all of them.

    It is given training samples only, so nothing can be chosen on test data. Among equals the strongest λ wins.

    Args:
        features: of the training samples whose labels may be seen.
        labels: their classes, 0 to classes − 1.
        classes: how many classes there are.
        seed: of the held-out choice; the fit itself draws nothing.
        grid: λ to choose from.

    Raises:
        InputError: where a label is no class or a feature is not finite.
    """
    fit, held = held_out_split(labels.cpu(), seed)
    if len(held) == 0:
        return fit_linear(features, labels, classes, FALLBACK)
    fit, held = fit.to(labels.device), held.to(labels.device)
    best = probe = None
    for strength in sorted(grid, reverse=True):  # each fit starts where the stronger one ended
        probe = fit_linear(features[fit], labels[fit], classes, strength, start=probe)
        accuracy = probe.accuracy(features[held], labels[held])
        if best is None or accuracy > best[0]:
            best = (accuracy, probe)
    if best is None:
        raise InputError("the grid of strengths is empty: give at least one")
    return fit_linear(features, labels, classes, best[1].strength, start=best[1], held_out_accuracy=best[0])


def fit_linear(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    strength: float,
    start: LinearProbe | None = None,
    held_out_accuracy: float | None = None,
    tolerance: float = 1e-5,
) -> LinearProbe:
    """The minimum of mean_i CE(W x_i + b, y_i) + λ/2 ‖W‖², by L-BFGS over the full batch, x standardised.

    The minimum is scikit-learn's at C = 1 / (λ n). The bias is not penalised.

    Args:
        features: float32 or float64; the fit keeps the type and the device.
        labels: classes, 0 to classes − 1.
        classes: how many classes there are.
        strength: λ, above 0.
        start: where to start from; zero if None. The minimum does not depend on it.
        held_out_accuracy: kept in the result.
        tolerance: the largest slope of the minimised function at which the fit is done.

    Raises:
        InputError: where a label is no class, a feature is not finite, or λ is not above 0.

    Source: Liu and Nocedal, On the Limited Memory BFGS Method (Mathematical Programming 1989).

    Example:
        >>> probe = fit_linear(torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1]), 2, strength=0.1)
        >>> probe.accuracy(torch.tensor([[-3.0], [0.5]]), torch.tensor([0, 1]))
        1.0
    """
    _check(features, labels, classes, strength)
    mean, scale = features.mean(0), features.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1)
    inputs = (features - mean) / scale
    zero = inputs.new_zeros(classes, inputs.shape[1]), inputs.new_zeros(classes)
    weight, bias = zero if start is None else (start.weight.clone(), start.bias.clone())
    _minimise(weight.requires_grad_(), bias.requires_grad_(), inputs, labels, strength, tolerance)
    return LinearProbe(weight.detach(), bias.detach(), mean, scale, strength, held_out_accuracy)


def _minimise(weight: Tensor, bias: Tensor, inputs: Tensor, labels: Tensor, strength: float, tolerance: float) -> None:
    """Move `weight` and `bias` to the minimum, in place."""
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=1000,
        tolerance_grad=tolerance,
        tolerance_change=tolerance * 1e-4,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(inputs, weight, bias), labels) + strength / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return loss.item()

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # likewise
    closure()
    slope = max(float(parameter.grad.abs().max()) for parameter in (weight, bias) if parameter.grad is not None)
    if slope > 1e-3:
        _log.warning("the probe with strength %g stopped short of its minimum: slope %.1g", strength, slope)


def _check(features: Tensor, labels: Tensor, classes: int, strength: float) -> None:
    if not strength > 0:
        raise InputError(f"a strength of {strength} leaves no minimum for separable features: give one above 0")
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(f"{len(labels)} labels for {classes} classes: give labels from 0 to {classes - 1}")
    if not torch.isfinite(features).all():
        raise InputError("the features hold NaN or infinity: check the checkpoint they were computed with")
