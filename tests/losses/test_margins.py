"""`PositiveLogits.at`: margins under every temperature, against a dense reference, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from contrast import Pairs
from contrast.errors import InputError
from contrast.losses import (
    HCL,
    AdaptiveTemperature,
    ContrastiveLoss,
    Debiased,
    FalseNegativeAttraction,
    FixedTemperature,
    NegativeLogits,
    Objective,
    PositiveLogits,
    Temperature,
)
from contrast.losses.exclusion import left_out
from contrast.losses.objectives import softplus
from contrast.observation.gradient import logit_gradient
from tests.losses.examples import adaptive, against_queue, in_batch, learned, with_gradient

MARGIN = 0.15


class AdditiveMargin(Objective):
    """InfoNCE with a margin on the positive's score: ``softplus(log Σ_j exp l_j - l(s⁺ - m))``."""

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return softplus(negatives.logsumexp() - positive.at(positive.score - MARGIN))


class AngularMargin(Objective):
    """InfoNCE with a margin on the positive's angle: the derivative of its logit is not 1."""

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return softplus(negatives.logsumexp() - positive.at(turned(positive.score)))


def turned(score: Tensor) -> Tensor:
    return torch.cos(torch.acos(score) + MARGIN)


TEMPERATURES: dict[str, Callable[[], Temperature]] = {
    "fixed": lambda: FixedTemperature(0.2),
    "learned": learned,
    "adaptive by concatenation": lambda: adaptive(form="concat"),
    "adaptive by product": lambda: adaptive(form="product"),
}
SOURCES: dict[str, Callable[[int], Pairs]] = {
    "in-batch": lambda heads: in_batch(0, 4, heads=heads),
    "queue": lambda heads: against_queue(0, 4, 9, heads=heads),
}


def slow_logit(temperature: Temperature, score: Tensor, query: Tensor, other: Tensor) -> Tensor:
    """One logit of one pair, from the paper's formula."""
    if isinstance(temperature, FixedTemperature):
        return score / temperature.value
    if not isinstance(temperature, AdaptiveTemperature):
        return score / temperature.log_value.exp()
    network: Callable[[Tensor], Tensor] = nn.Sequential(temperature.network[0], nn.ReLU(), temperature.network[2])
    if temperature.form == "product":
        agreement = network(query) @ network(other)
    else:
        agreement = (network(torch.cat([query, other])) + network(torch.cat([other, query])))[0] / 2
    tau = temperature.lowest + (temperature.highest - temperature.lowest) * torch.sigmoid(agreement)
    width = len(query)
    return score / tau - temperature.beta * (width / 2 * tau.log() + 1 / tau)


def slow(temperature: Temperature, pairs: Pairs) -> Tensor:
    """Mean over queries of the sum over heads, pair by pair."""
    kept = ~left_out(pairs, 0, pairs.negatives.shape[-2])
    heads = [(pairs.query, pairs.positive, pairs.negatives)]
    if pairs.query.ndim == 3:
        heads = list(zip(pairs.query, pairs.positive, pairs.negatives, strict=True))
    total = torch.zeros((), dtype=torch.float64)
    for query, positive, negatives in heads:
        for b in range(len(query)):
            plus = slow_logit(temperature, query[b] @ positive[b] - MARGIN, query[b], positive[b])
            minus = [slow_logit(temperature, query[b] @ row, query[b], row) for row in negatives[kept[b]]]
            total = total + torch.log(plus.exp() + sum(each.exp() for each in minus)) - plus
    return total / len(pairs.index)


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", TEMPERATURES)
def test_an_additive_margin_equals_a_dense_reference(name: str, source: str, heads: int) -> None:
    temperature, pairs = TEMPERATURES[name](), with_gradient(SOURCES[source](heads))
    inputs = [pairs.query, pairs.positive, pairs.negatives, *temperature.parameters()]
    found = ContrastiveLoss(AdditiveMargin(), temperature)(pairs).loss
    expected = slow(temperature, pairs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(loss, inputs, allow_unused=True) for loss in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", TEMPERATURES)
def test_a_margin_of_zero_is_the_logit_itself(name: str) -> None:
    positive, _ = ContrastiveLoss(AdditiveMargin(), TEMPERATURES[name]()).logits(in_batch(0, 4))
    torch.testing.assert_close(positive.at(positive.score), positive.logit, rtol=0, atol=0)


def test_each_extra_positive_has_the_margin() -> None:
    pairs = FalseNegativeAttraction(most=1, threshold=-1.0)(in_batch(0, 4))
    loss = ContrastiveLoss(AdditiveMargin(), adaptive())
    own, negatives = loss.logits(pairs)
    partition, query = negatives.logsumexp(), pairs.query
    extra = [
        slow_logit(loss.temperature, q @ k - MARGIN, q, k)
        for q, k in zip(query, pairs.extra_positives[:, 0], strict=True)
    ]
    both = [softplus(partition - logit) for logit in (own.at(own.score - MARGIN), torch.stack(extra))]
    torch.testing.assert_close(loss(pairs).losses, (both[0] + both[1]) / 2)


@pytest.mark.parametrize("objective", [AdditiveMargin, AngularMargin])
@pytest.mark.parametrize("name", TEMPERATURES)
def test_observers_see_the_gradient_of_a_margin(name: str, objective: type[Objective]) -> None:
    loss, pairs = ContrastiveLoss(objective(), TEMPERATURES[name]()), in_batch(0, 4)
    with torch.inference_mode():
        positive, negatives = loss.logits(pairs)
        pull = logit_gradient(loss, pairs, positive, negatives).pull
    positive, negatives = loss.logits(pairs)
    slope = (positive.at(positive.score + 1e-6) - positive.at(positive.score - 1e-6)) / 2e-6
    steps = []
    for step in (1e-6, -1e-6):
        moved = PositiveLogits(
            positive.score + step / slope, positive.logit + step, positive.temperature, positive.rows
        )
        steps.append(loss.of_logits(pairs, moved, negatives))
    torch.testing.assert_close(pull, (steps[0] - steps[1]).detach() / 2e-6, rtol=1e-5, atol=1e-8)
    assert (pull < 0).all()


@pytest.mark.parametrize("objective", [Debiased(), HCL()])
def test_the_message_names_the_class_that_asked(objective: Objective) -> None:
    asked = (
        f"^{type(objective).__name__} asks for the logit of a score without embeddings, which AdaptiveTemperature does"
    )
    with pytest.raises(InputError, match=asked):
        ContrastiveLoss(objective, adaptive())(in_batch(0, 4))


def test_wrong_uses_of_at_are_refused_in_one_line() -> None:
    positive, _ = ContrastiveLoss(AdditiveMargin()).logits(in_batch(0, 4))
    with pytest.raises(InputError, match=r"^PositiveLogits.at got scores of shape \(1,\): [^\n]* of shape \(8,\)$"):
        positive.at(positive.score[:1])
    with pytest.raises(InputError, match=r"^PositiveLogits.at needs the temperature: [^\n]*positive_logits"):
        PositiveLogits(positive.score, positive.logit).at(positive.score)
