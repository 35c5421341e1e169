"""The kernels against loops over every pair, in Triton's interpreter where there is no card."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from contrast import Pairs
from contrast.losses import partition
from contrast.losses._partition_cuda import fits, fused_log_partition
from contrast.losses.exclusion import LeftOut
from tests.losses.test_partition import by_loops, rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Triton 3.9's interpreter multiplies the bits of bfloat16 numbers as integers: on a card alone.
KINDS = [torch.float32, torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)]


def found(
    pairs: Pairs, query: Tensor, negatives: Tensor, tau: float, within: bool, queue: bool = False, loops: bool = False
) -> list[Tensor]:
    """Value and gradients, by the kernels or by loops in float64."""
    kind = torch.float64 if loops else query.dtype
    q = query.detach().to(kind).requires_grad_()
    n = q if within else negatives.detach().to(kind).requires_grad_(not queue)
    inverse = torch.tensor(
        1 / tau, dtype=torch.float64 if loops else torch.float32, device=q.device, requires_grad=True
    )
    value = by_loops(q, n, inverse, pairs) if loops else fused_log_partition(q, n, inverse, pairs, within)
    weights = torch.linspace(-1, 2, len(q), device=q.device)
    (torch.where(value == -math.inf, torch.zeros_like(value), value) * weights).sum().backward()
    return [value.detach(), q.grad, inverse.grad] + ([] if within or queue else [n.grad])


def agree(
    pairs: Pairs, query: Tensor, negatives: Tensor, tau: float, within: bool = False, queue: bool = False
) -> None:
    near = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[query.dtype]
    ours = found(pairs, query, negatives, tau, within, queue)
    for one, loop in zip(ours, found(pairs, query, negatives, tau, within, queue, loops=True), strict=True):
        scale = max(1.0, float(loop[loop.isfinite()].abs().max())) if loop.isfinite().any() else 1.0
        torch.testing.assert_close(one.double(), loop, rtol=0, atol=near * scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [0.5, 0.01])
@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_other_rows(kind: torch.dtype, tau: float, queue: bool, mixed: bool) -> None:
    """More than one block each way, widths that are no power of two, excluded columns, a query that meets nobody."""
    query, negatives = (rows(seed, count, 20).to(kind).to(DEVICE) for seed, count in ((0, 70), (1, 131)))
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(-1, 40, (70,), generator=generator)
    of = torch.randint(-1, 40, (131, 2) if mixed else (131,), generator=generator)
    excluded = torch.randint(-1, 131, (70, 140), generator=generator)
    excluded[:, 3:] = -1
    excluded[5, :131] = torch.arange(131)
    agree(
        Pairs(query, query, negatives, index.to(DEVICE), of.to(DEVICE), excluded=excluded.to(DEVICE)),
        query, negatives, tau, queue=queue,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [0.5, 0.01])
def test_rows_among_themselves(kind: torch.dtype, tau: float) -> None:
    query = rows(0, 70, 20).to(kind).to(DEVICE)
    index = torch.randint(0, 30, (35,), generator=torch.Generator().manual_seed(0)).repeat(2).to(DEVICE)
    index[[0, 35]] = -1  # of no known sample: each other's negatives, and their own
    agree(Pairs(query, query, query, index, index), query, query, tau, within=True)


def test_rows_of_one_sample_meet_nobody() -> None:
    query, index = rows(0, 4, 16).float().to(DEVICE), torch.zeros(4, dtype=torch.long, device=DEVICE)
    value, gradient, *_ = found(Pairs(query, query, query, index, index), query, query, 0.5, within=True)
    assert (value == -math.inf).all()
    assert not gradient.any()


def test_what_the_kernels_take() -> None:
    assert fits(torch.zeros(2, 256, dtype=torch.bfloat16))
    assert not fits(torch.zeros(2, 257))
    assert not fits(torch.zeros(2, 16, dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.parametrize("within", [False, True])
def test_on_a_card_they_are_what_a_loss_uses(within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    query = rows(0, 300, 128).float().cuda()
    negatives, index = query if within else rows(1, 500, 128).float().cuda(), torch.arange(300, device="cuda")
    pairs = Pairs(query, query, negatives, index, index if within else torch.arange(500, device="cuda"))
    inverse, out = torch.tensor(10.0, device="cuda"), LeftOut(pairs)
    fused = partition.log_partition(query, negatives, inverse, out)
    monkeypatch.setattr(partition, "HAS_TRITON", False)
    torch.testing.assert_close(fused, partition.log_partition(query, negatives, inverse, out), rtol=0, atol=1e-4)
