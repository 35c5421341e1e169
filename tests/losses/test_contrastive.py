"""The formula against slow loops, its identities, and what it must never do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import contrast
from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.errors import InputError
from contrast.losses import (
    DCL,
    DCLW,
    HCL,
    ContrastiveLoss,
    Debiased,
    FixedTemperature,
    InfoNCE,
    LearnedTemperature,
    Objective,
    PairTransform,
    PairWeighting,
)
from contrast.pairs import NOT_OFFERED
from tests.reference import losses as reference

small = settings(deadline=None, max_examples=20)


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def in_batch(seed: int, count: int, width: int) -> Pairs:
    return in_batch_pairs(rows(seed, count, width), rows(seed + 1, count, width), torch.arange(count))


@small
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 5), st.floats(0.05, 2))
def test_in_batch_losses_equal_the_loops(seed: int, count: int, width: int, temperature: float) -> None:
    z1, z2 = rows(seed, count, width), rows(seed + 1, count, width)
    pairs = in_batch_pairs(z1, z2, torch.arange(count))
    expected = {
        InfoNCE(): reference.nt_xent(z1, z2, temperature),
        DCL(): reference.dcl(z1, z2, temperature),
        DCLW(0.3): reference.dcl(z1, z2, temperature, sigma=0.3),
    }
    for objective, value in expected.items():
        torch.testing.assert_close(ContrastiveLoss(objective, temperature)(pairs).loss, value, rtol=1e-10, atol=1e-12)


@small
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(3, 9))
def test_a_queue_never_holds_the_query_of_its_own_sample(seed: int, count: int, size: int) -> None:
    query, key, queue = rows(seed, count, 4), rows(seed + 1, count, 4), rows(seed + 2, size, 4)
    index = torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    queue_index = torch.randint(-1, 2 * count, (size,), generator=generator)
    loss = ContrastiveLoss(InfoNCE(), 0.2)(queue_pairs(query, key, queue, index, queue_index)).loss
    torch.testing.assert_close(loss, reference.moco(query, key, queue, index, queue_index, 0.2))


@small
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.05, 2))
def test_nt_xent_is_softplus_of_dcl(seed: int, count: int, temperature: float) -> None:
    pairs = in_batch(seed, count, 4)
    nt_xent = ContrastiveLoss(InfoNCE(), temperature)(pairs).losses
    dcl = ContrastiveLoss(DCL(), temperature)(pairs).losses
    torch.testing.assert_close(nt_xent, torch.nn.functional.softplus(dcl))


@small
@given(st.integers(0, 10_000), st.integers(2, 10))
def test_a_shuffled_batch_has_the_same_loss(seed: int, count: int) -> None:
    z1, z2 = rows(seed, count, 4), rows(seed + 1, count, 4)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    for objective in (InfoNCE(), DCL(), DCLW()):
        loss = ContrastiveLoss(objective, 0.2)
        straight = loss(in_batch_pairs(z1, z2, torch.arange(count))).loss
        torch.testing.assert_close(loss(in_batch_pairs(z1[order], z2[order], order)).loss, straight)


def test_one_head_as_an_axis_is_no_head_and_two_heads_are_summed() -> None:
    z1, z2, index = rows(0, 5, 4), rows(1, 5, 4), torch.arange(5)
    loss = ContrastiveLoss(DCLW(), 0.2)
    one = loss(in_batch_pairs(z1, z2, index)).losses
    torch.testing.assert_close(loss(in_batch_pairs(z1[None], z2[None], index)).losses, one)
    both = loss(in_batch_pairs(torch.stack([z1, z2]), torch.stack([z2, z1]), index)).losses
    torch.testing.assert_close(both, one + one.roll(5))  # the second head's first five queries are the second view's


def test_excluded_columns_and_rows_that_are_none() -> None:
    query, key, queue = rows(0, 3, 4), rows(1, 3, 4), rows(2, 6, 4)
    own = rows(3, 3, 2, 4)
    excluded = torch.tensor([[0, 5], [-1, -1], [2, -1]])
    own_index = torch.tensor([[-1, NOT_OFFERED], [1, -1], [7, 8]])
    pairs = Pairs(
        query, key, queue, torch.arange(3), torch.full((6,), -1), excluded=excluded, own_negatives=own,
        own_negative_index=own_index,
    )  # fmt: skip
    _, negatives = ContrastiveLoss(DCL(), 0.5).logits(pairs)
    expected_shared = [[1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [0, 1, 3, 4, 5]]
    expected_own = [[0], [1], [0, 1]]  # the second's first own row is of its own sample
    for i in range(3):
        scores = [query[i] @ queue[j] for j in expected_shared[i]] + [query[i] @ own[i, j] for j in expected_own[i]]
        value = torch.logsumexp(torch.stack(scores) / 0.5, 0)
        torch.testing.assert_close(negatives.logsumexp()[i], value)
        assert negatives.count[i] == len(scores)
        torch.testing.assert_close(negatives.hardest()[0][i], torch.stack(scores).max())


def test_an_unknown_sample_equals_nothing_another_unknown_one_included() -> None:
    unknown = torch.tensor([-1, -1, 4])
    pairs = Pairs(
        rows(0, 3, 4), rows(1, 3, 4), rows(2, 3, 4), unknown, unknown, own_negatives=rows(3, 3, 1, 4),
        own_negative_index=unknown[:, None],
    )  # fmt: skip
    assert ContrastiveLoss(InfoNCE()).logits(pairs)[1].count.tolist() == [4, 4, 2]


def test_a_sample_twice_in_a_batch_is_not_its_own_negative() -> None:
    z1, z2 = rows(0, 4, 8), rows(1, 4, 8)
    _, negatives = ContrastiveLoss(InfoNCE()).logits(in_batch_pairs(z1, z2, torch.tensor([0, 1, 2, 2])))
    assert negatives.count.tolist() == [6, 6, 4, 4] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("objective", [InfoNCE(), DCL(), DCLW()])
@pytest.mark.parametrize("kind", ["identical", "opposite", "duplicated"])
def test_finite_at_a_low_temperature(objective: torch.nn.Module, kind: str, dtype: torch.dtype) -> None:
    base = torch.zeros(2, 8)
    base[:, 0] = 1
    z1, z2 = {"identical": (base, base), "opposite": (base, -base), "duplicated": (base, base.flip(0))}[kind]
    z1, z2 = z1.to(dtype).requires_grad_(), z2.to(dtype).requires_grad_()
    output = ContrastiveLoss(objective, LearnedTemperature(0.01))(in_batch_pairs(z1, z2, torch.arange(2)))
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()
    assert z1.grad.isfinite().all()


def test_a_learned_temperature_has_the_gradient_of_autograd_and_stays_in_bounds() -> None:
    learned = LearnedTemperature(0.5, 0.1, 0.9)
    loss = ContrastiveLoss(InfoNCE(), learned)(in_batch(0, 5, 4)).loss
    loss.backward()
    step = 1e-4
    values = []
    for shift in (step, -step):
        temperature = torch.exp(torch.tensor(0.5, dtype=torch.float64).log() + shift).item()
        values.append(ContrastiveLoss(InfoNCE(), temperature)(in_batch(0, 5, 4)).loss)
    assert learned.log_value.grad.item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), rel=1e-4)
    learned.log_value.data.fill_(3)
    assert learned.value.item() == pytest.approx(0.9)
    learned.begin_step(0, 0)
    assert learned.log_value.exp().item() == pytest.approx(0.9)


def test_transforms_run_in_order_and_weights_multiply() -> None:
    class Scale(PairTransform):
        def __init__(self, by: float, add: float) -> None:
            super().__init__()
            self.by, self.add = by, add

        def forward(self, pairs: Pairs) -> Pairs:
            return Pairs(pairs.query * self.by + self.add, pairs.positive, pairs.negatives, pairs.index, pairs.index)

    class FirstOnly(PairWeighting):
        def forward(self, losses: Tensor, index: Tensor) -> Tensor:
            return (index == 0).to(losses.dtype)

    pairs = queue_pairs(rows(0, 3, 4), rows(1, 3, 4), rows(2, 3, 4), torch.arange(3), torch.arange(3))
    loss = ContrastiveLoss(InfoNCE(), 1.0, transforms=[Scale(2, 0), Scale(1, 1)], weighting=FirstOnly())
    output = loss(pairs)
    torch.testing.assert_close(output.pairs[0].query, pairs.query * 2 + 1)
    torch.testing.assert_close(output.loss, output.losses[0] / 3)
    assert output.weights.tolist() == [1, 0, 0]


def test_everything_but_the_loss_is_detached() -> None:
    z = rows(0, 4, 8).requires_grad_()
    output = ContrastiveLoss(InfoNCE())(in_batch_pairs(z, z, torch.arange(4)))
    assert output.loss.requires_grad
    assert not output.losses.requires_grad
    assert not output.pairs[0].query.requires_grad


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ContrastiveLoss(InfoNCE(), -0.1), "temperature -0.1 is not above 0"),
        (lambda: ContrastiveLoss(InfoNCE(), float("nan")), "temperature nan"),
        (lambda: DCLW(0), "sigma 0 is not above 0"),
        (lambda: LearnedTemperature(0.5, 0.6, 1), "lowest=0.6"),
        (lambda: Pairs(rows(0, 3, 4), rows(0, 2, 4), rows(0, 5, 4), torch.arange(3), torch.arange(5)), "positive"),
    ],
)
def test_refusals_name_the_value(build: object, words: str) -> None:
    with pytest.raises((InputError, TypeError), match=words):
        build()


def test_a_temperature_that_is_changed_counts_from_then_on() -> None:
    pairs, temperature = in_batch(0, 5, 6), FixedTemperature(0.2)
    loss = ContrastiveLoss(InfoNCE(), temperature)
    loss(pairs)
    temperature.value = 0.5
    torch.testing.assert_close(loss(pairs).loss, ContrastiveLoss(InfoNCE(), 0.5)(pairs).loss)


@pytest.mark.parametrize("objective", [InfoNCE(), Debiased(0.0), HCL(0.0, 0.0)], ids=lambda each: type(each).__name__)
def test_a_hard_query_has_its_loss_to_the_last_digit(objective: Objective) -> None:
    """log(1 + exp r) for r from -50 to 100; torch's softplus is r itself above 20, off by a relative 1e-10."""
    for wanted in (-50.0, -20.0, 0.0, 19.9, 20.1, 21.0, 25.0, 30.0, 36.0, 49.9, 50.1, 100.0):
        tau = 2.0 / max(abs(wanted), 1.0)  # scores of 1 and -1, or -1 and 1: r = ±2/τ
        sign = 1.0 if wanted >= 0 else -1.0
        query = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
        rows_of = torch.tensor([[sign, 0.0]], dtype=torch.float64)
        pairs = queue_pairs(query, -rows_of, rows_of, torch.tensor([0]), torch.tensor([1]))
        loss = ContrastiveLoss(objective, tau)(pairs).loss
        r = 2 * sign / tau
        expected = max(r, 0.0) + math.log1p(math.exp(-abs(r)))
        assert loss.item() == pytest.approx(expected, rel=4e-16, abs=0)
        (gradient,) = torch.autograd.grad(loss, query)
        slope = 1 / (1 + math.exp(-r)) if r >= 0 else math.exp(r) / (1 + math.exp(r))
        assert gradient[0, 0].item() == pytest.approx(slope * r, rel=1e-14)


def test_no_other_softplus_in_the_package() -> None:
    """Torch's own with its default threshold is in no file of the package."""
    texts = {path.name: path.read_text() for path in Path(contrast.__file__).parent.rglob("*.py")}
    assert [name for name, text in texts.items() if "functional.softplus(" in text] == ["objectives.py"]
    assert texts["objectives.py"].count("functional.softplus(x, threshold=_LINEAR_FROM)") == 1
