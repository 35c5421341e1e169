"""Temperatures of a contrastive loss: fixed, learned, and adaptive by pair and head (AMCL)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from contrast.checks import checked
from contrast.errors import InputError, did_you_mean
from contrast.losses.base import Piece

__all__ = [
    "AdaptiveTemperature",
    "FixedTemperature",
    "LearnedTemperature",
    "NoLogitError",
    "Temperature",
    "amcl_logits",
    "as_temperature",
    "temperature_cost",
]


class NoLogitError(InputError):
    """A temperature that reads the embeddings of a pair was asked for the logit of a score alone."""


class Temperature(Piece):
    """Base class of temperatures: map scores to logits.

    A temperature that differs from pair to pair reads the embeddings of the pair. Observers read τ from `single` or
    `of_pairs`: a run's rows, figures and the doctor's rules on temperatures follow from them.

    Attributes:
        constant: whether τ is the same throughout a run. The τ of any other temperature is a metric of the run.
        by_pair: whether `of_pairs` gives a τ for each pair.
    """

    constant: ClassVar[bool] = False
    by_pair: ClassVar[bool] = False

    @abstractmethod
    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        """Logits of the scores.

        Args:
            scores: scores of any shape.
            query: query embeddings with a last axis of width d.
            other: embeddings of the positives or negatives with a last axis of width d. Without that axis, `query` and
                `other` broadcast to the shape of `scores`.
        """

    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Logit of a score that belongs to no pair of embeddings.

        Raises:
            NoLogitError: by default, for a temperature that reads the embeddings of a pair.
        """
        raise NoLogitError(
            f"{type(self).__name__} reads the embeddings of a pair, so a score alone has no logit: ask for the logit "
            "of a pair"
        )

    def single(self) -> Float[Tensor, ""] | None:
        """The single τ of ``logit = score / τ``, if all pairs share one; otherwise None.

        A learned τ carries its gradient. A scheduled τ is the current one. With a single τ, a loss uses the faster
        `contrast.losses.partition`.
        """
        return None

    def of_pairs(self, query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """τ of each pair, for observers; a temperature with `by_pair` defines it.

        Args:
            query: query embeddings with a last axis of width d.
            other: embeddings of the positives or negatives with a last axis of width d; broadcasts against `query`.
        """
        raise NotImplementedError(f"{type(self).__name__}.by_pair is {self.by_pair}: define of_pairs to set it")


class FixedTemperature(Temperature):
    """Fixed temperature: one constant τ, ``logit = score / τ``.

    Args:
        value: τ, above 0.

    Example:
        >>> FixedTemperature(0.5).of_score(torch.tensor(0.2)).item()
        0.4000000059604645
    """

    constant = True

    @checked
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = _positive("temperature", value)

    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        return scores / self.value

    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return score / self.value

    def single(self) -> Float[Tensor, ""]:
        return torch.tensor(self.value, dtype=torch.float64)

    def extra_repr(self) -> str:
        return f"{self.value:g}"

    def describe(self) -> str:
        return self.extra_repr()


class LearnedTemperature(Temperature):
    """Learned temperature: one τ, learned in log space and kept between bounds.

    ``logit = score / τ`` with ``τ = exp(θ)``

    The parameter θ is clamped to its bounds before each step, so that it never stays outside them without a gradient.

    Args:
        initial: τ at the start.
        lowest: lower bound of τ, above 0.
        highest: upper bound of τ; ``0 < lowest <= initial <= highest``.

    Raises:
        InputError: if the bounds are out of order.

    Source: learned in log space as in CLIP, Radford et al., ICML 2021, arXiv 2103.00020, section 2.4, whose lower bound
    of 0.01 is the default.
    """

    @checked
    def __init__(self, initial: float = 0.07, lowest: float = 0.01, highest: float = 1.0) -> None:
        super().__init__()
        if not 0 < lowest <= initial <= highest:
            raise InputError(
                f"LearnedTemperature needs 0 < lowest <= initial <= highest, not lowest={lowest:g} "
                f"initial={initial:g} highest={highest:g}"
            )
        self.bounds = (math.log(lowest), math.log(highest))
        self.log_value = nn.Parameter(torch.tensor(math.log(initial)))

    @property
    def value(self) -> Float[Tensor, ""]:
        """The current τ, within its bounds, with gradient."""
        return self.log_value.clamp(*self.bounds).exp()

    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        return scores / self.value.to(scores.dtype)

    def of_score(self, score: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return score / self.value.to(score.dtype)

    def single(self) -> Float[Tensor, ""]:
        return self.value

    def begin_step(self, epoch: int, step: int) -> None:
        with torch.no_grad():
            self.log_value.clamp_(*self.bounds)

    def extra_repr(self) -> str:
        low, high = (math.exp(bound) for bound in self.bounds)
        return f"{self.value.item():g} in [{low:g}, {high:g}]"


def as_temperature(temperature: float | Temperature) -> Temperature:
    """Convert a number to a `FixedTemperature`; a `Temperature` is returned unchanged."""
    return temperature if isinstance(temperature, Temperature) else FixedTemperature(temperature)


def _positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} {value:g} is not above 0: it divides the scores; common values are 0.05 to 0.5")
    return float(value)


Form = Literal["concat", "product"]
_FORMS = ("concat", "product")

_CPU_BLOCK, _DEVICE_BLOCK = 1 << 18, 1 << 26
"""Hidden activations (pairs times hidden units) in memory at one time: 1 MiB and 256 MiB in float32."""


class AdaptiveTemperature(Temperature):
    """Adaptive temperature (AMCL): a learned τ for each pair of each head.

    ``logit = s/τ - β Ω(τ)``, ``τ = lowest + (highest - lowest) · sigmoid(a(z, z′))``, ``Ω(τ) = (d/2) log τ + 1/τ``

    The agreement a comes from one small network that all heads share::

        concat     a(z, z′) = ½ [ m([z; z′]) + m([z′; z]) ],   m = linear, ReLU, linear to one number
        product    a(z, z′) = φ(z) · φ(z′),                    φ = linear, ReLU, linear

    Both forms are symmetric in the pair. ``concat`` averages its two orders before the sigmoid, so that τ can come as
    close to each bound as with one order. ``product`` gives a pair of equal rows a τ in the upper half of the range,
    because φ(z) · φ(z) is at least 0. Similar positives therefore cannot get a low τ.

    Ω keeps τ away from its bounds: for β = 1, ``-s/τ + Ω(τ)`` is the negative log-likelihood of a Gaussian with
    variance τ.

    ``concat`` never holds its hidden activations for all pairs. The first layer is split into one part for each row of
    the pair. The activations of the pairs are computed block by block, and again in backward. Memory is the same as for
    ``product``. The work is two times `hidden_width` additions per pair, where ``product`` takes one matrix product.

    Args:
        width: d, the width of the embeddings; the head's `output_width`.
        hidden_width: units of the network's hidden layer; with ``product``, also of its output.
        lowest: lower bound of τ, above 0.
        highest: upper bound of τ, above `lowest`.
        beta: β, at least 0. 0 drops Ω.
        form: how the network maps a pair to one number, ``concat`` or ``product``.

    Raises:
        InputError: for bounds out of order; for a negative or infinite beta; for an unknown form; for embeddings of
            another width.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615; the paper's section on τ was not read. ``concat`` follows the
    module that the authors published (github.com/LeiWangR/cl at 3318352, src/amcl_components/adaptive_temperature.py),
    made symmetric; the bounds there are 1e-5 and 2, and β is 0.1. ``product`` follows third-party notes on the paper.
    The bounds and β here are choices of this project.

    Example:
        >>> temperature = AdaptiveTemperature(width=8)
        >>> z = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
        >>> tau = temperature.of_pairs(z, z)
        >>> tau.shape, bool(((tau > 0.05) & (tau < 0.5)).all())
        (torch.Size([4]), True)
    """

    by_pair = True

    @checked
    def __init__(
        self,
        width: int = 128,
        hidden_width: int = 128,
        lowest: float = 0.05,
        highest: float = 0.5,
        beta: float = 0.01,
        form: Form = "concat",
    ) -> None:
        super().__init__()
        if width < 1 or hidden_width < 1:
            raise InputError(f"AdaptiveTemperature's width {width} and hidden_width {hidden_width} must be above 0")
        if not 0 < lowest < highest < math.inf:
            raise InputError(
                f"AdaptiveTemperature needs 0 < lowest < highest < inf, not {lowest:g} and {highest:g}: without a "
                "lower bound the loss has none"
            )
        if not 0 <= beta < math.inf:
            raise InputError(
                f"AdaptiveTemperature's beta {beta:g} must be finite and at least 0: it weighs the cost of tau"
            )
        if form not in _FORMS:
            raise InputError(f"AdaptiveTemperature has no form {form!r}{did_you_mean(form, _FORMS)}")
        self.width, self.lowest, self.highest, self.beta, self.form = width, lowest, highest, beta, form
        inputs, outputs = (2 * width, 1) if form == "concat" else (width, hidden_width)
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden_width), nn.ReLU(inplace=True), nn.Linear(hidden_width, outputs)
        )

    def forward(
        self, scores: Float[Tensor, "..."], query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]
    ) -> Float[Tensor, "..."]:
        return amcl_logits(scores, self.of_pairs(query, other), self.beta, self.width)

    def of_pairs(self, query: Float[Tensor, "... d"], other: Float[Tensor, "... d"]) -> Float[Tensor, "..."]:
        """τ of each pair.

        Args:
            query: query embeddings with a last axis of width d.
            other: embeddings of the positives or negatives with a last axis of width d; broadcasts against `query`.

        Raises:
            InputError: for embeddings of another width.
        """
        if query.shape[-1] != self.width:
            raise InputError(
                f"AdaptiveTemperature of width {self.width} got embeddings of width {query.shape[-1]}: set its width "
                "to the head's output_width"
            )
        if self.form == "product":
            agreement = _inner(self.network(query), self.network(other))
        else:
            agreement = self._of_both_orders(query, other)
        return self.lowest + (self.highest - self.lowest) * torch.sigmoid(agreement)

    def _of_both_orders(self, query: Tensor, other: Tensor) -> Tensor:
        """``½ [m([z; z′]) + m([z′; z])]``, with m's first layer split: ``W [z; z′] = W1 z + W2 z′``."""
        first, last = self.network[0], self.network[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        one, two = first.weight[:, : self.width], first.weight[:, self.width :]
        shape = _common_shape(query, other)
        query, other = (rows.view(*[1] * (max(len(shape), 2) + 1 - rows.ndim), *rows.shape) for rows in (query, other))
        with torch.autocast(query.device.type, enabled=False):
            # Concatenate the hidden units of both orders, so that one sum covers both.
            left = nn.functional.linear(query, torch.cat([one, two]), torch.cat([first.bias, first.bias]))
            right = nn.functional.linear(other, torch.cat([two, one]))
            agreement: Tensor = _Agreement.apply(left, right, torch.cat([last.weight[0], last.weight[0]]) / 2)
            return agreement.view(shape) + last.bias[0]

    def extra_repr(self) -> str:
        return f"in [{self.lowest:g}, {self.highest:g}] by pair ({self.form}), beta {self.beta:g}"


@checked
def amcl_logits(
    score: Float[Tensor, "..."], tau: Float[Tensor, "..."], beta: float, width: int
) -> Float[Tensor, "..."]:
    """AMCL logits: ``s/τ - β Ω(τ)``, with ``Ω(τ) = (d/2) log τ + 1/τ``.

    Args:
        score: s, before the temperature.
        tau: τ of each score, above 0.
        beta: β.
        width: d, the width of the embeddings.

    Source: Wang et al., ECCV 2024, arXiv 2310.05615.
    """
    return score / tau - beta * temperature_cost(tau, width)


def temperature_cost(tau: Float[Tensor, "..."], width: int) -> Float[Tensor, "..."]:
    """AMCL's cost of a temperature, ``Ω(τ) = (d/2) log τ + 1/τ``; smallest at τ = 2/d."""
    return width / 2 * torch.log(tau) + 1 / tau


def _inner(query: Tensor, other: Tensor) -> Tensor:
    """Inner products along the last axis of tensors that broadcast; a matrix product if all rows meet all rows."""
    if query.ndim > 2 and query.shape[-2] == 1 and other.shape[-3] == 1:
        return query.squeeze(-2) @ other.squeeze(-3).transpose(-1, -2)
    if query.ndim > 2 and query.shape[-2] == 1:
        return (other @ query.transpose(-1, -2)).squeeze(-1)
    return (query * other).sum(dim=-1)


class _Agreement(torch.autograd.Function):
    """``Σ_u w_u relu(left_u + right_u)`` of rows that broadcast, block by block, without materialising the sums.

    With ``on = [left + right > 0]`` and the incoming gradient g, the gradient of left is w times ``A_left = Σ g on``,
    summed over the axes along which left is repeated. The same holds for right. The gradient of w is
    ``Σ left A_left + Σ right A_right``.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, weight)
        total = left.new_empty(_common_shape(left, right))
        for out, one, two in _blocks(total, left, right):
            out.copy_((one + two).relu_() @ weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right, weight = ctx.saved_tensors
        of_left, of_right = torch.zeros_like(left), torch.zeros_like(right)
        reached = zip(_blocks(gradient, left, right), _blocks(gradient, of_left, of_right), strict=True)
        for (pulled, one, two), (_, to_left, to_right) in reached:
            on = (one + two).gt_(0).mul_(pulled[..., None])  # in place: faster than a mask and a cast
            to_left += on.sum_to_size(to_left.shape)
            to_right += on.sum_to_size(to_right.shape)
        of_weight = (left * of_left).flatten(0, -2).sum(dim=0) + (right * of_right).flatten(0, -2).sum(dim=0)
        return of_left * weight, of_right * weight, of_weight


def _blocks(total: Tensor, left: Tensor, right: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Iterate over views of the same block of pairs in all three tensors.

    Blocks run along the last two axes of pairs. Axes of length 1 in `left` and `right` are kept.
    """
    if total.ndim > 2:
        for place in range(total.shape[0]):
            yield from _blocks(total[place], _at(left, place), _at(right, place))
        return
    rows, columns = total.shape
    pairs = max(1, (_CPU_BLOCK if total.device.type == "cpu" else _DEVICE_BLOCK) // left.shape[-1])
    height = max(1, min(rows, math.isqrt(pairs)))
    width = pairs // height
    for top in range(0, rows, height):
        for start in range(0, columns, width):
            block = slice(top, top + height), slice(start, start + width)
            yield total[block], _part(left, *block), _part(right, *block)


def _at(rows: Tensor, place: int) -> Tensor:
    """Index the first axis; an axis of length 1 stands for all positions."""
    return rows[place if rows.shape[0] > 1 else 0]


def _part(rows: Tensor, top: slice, side: slice) -> Tensor:
    whole = slice(None)
    return rows[top if rows.shape[0] > 1 else whole, side if rows.shape[1] > 1 else whole]


def _common_shape(left: Tensor, right: Tensor) -> torch.Size:
    """Shape of all pairs of rows that broadcast."""
    shape: torch.Size = torch.broadcast_shapes(left.shape[:-1], right.shape[:-1])  # type: ignore[no-untyped-call]
    return shape
