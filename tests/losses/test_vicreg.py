"""VICReg: the authors' numbers, properties, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.errors import InputError
from contrast.losses import VICReg
from tests.golden_cases import cases, close
from tests.losses.second_door import one_direction, raw


def test_the_authors_numbers() -> None:
    seen = 0
    for _, parameters, arrays in cases("vicreg"):
        z1, z2 = arrays["z1"].requires_grad_(), arrays["z2"].requires_grad_()
        loss = VICReg(parameters["sim"], parameters["std"], parameters["cov"])(one_direction(z1, z2)).loss
        loss.backward()
        close(loss.detach(), arrays["official/loss"])
        close(z1.grad, arrays["official/grad_z1"])
        close(z2.grad, arrays["official/grad_z2"])
        seen += 1
    assert seen == 16


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 9), width=st.integers(1, 6))
def test_order_and_heads_do_not_matter(seed: int, count: int, width: int) -> None:
    z1, z2 = raw(seed, count, width), raw(seed + 1, count, width)
    loss = VICReg()(one_direction(z1, z2)).loss
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(VICReg()(one_direction(z1[order], z2[order])).loss, loss)
    torch.testing.assert_close(VICReg()(one_direction(z1[None], z2[None])).loss, loss)
    twice = VICReg()(one_direction(torch.stack([z1, z2]), torch.stack([z2, z2]))).loss
    torch.testing.assert_close(twice, loss + VICReg()(one_direction(z2, z2)).loss)


@pytest.mark.parametrize("terms", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_each_term_is_weighed_alone(terms: tuple[float, float, float]) -> None:
    z1, z2 = raw(0, 6, 3) / 2, raw(1, 6, 3) / 2
    distance, variance, covariance = terms
    expected = distance * ((z1 - z2) ** 2).mean()
    for z in (z1, z2):
        matrix = torch.cov(z.T)
        expected = expected + variance * (1 - (matrix.diagonal() + 1e-4).sqrt()).clamp(min=0).mean() / 2
        expected = expected + covariance * (matrix - matrix.diagonal().diag()).square().sum() / 3
    torch.testing.assert_close(VICReg(*terms)(one_direction(z1, z2)).loss, expected)


def test_half_precision_and_dimensions_without_variance_stay_finite() -> None:
    z = raw(0, 8, 4, dtype=torch.bfloat16)
    z[:, 0] = 1000
    z.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = VICReg()(one_direction(z, z.detach() + 1)).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert z.grad.isfinite().all()


def test_what_is_refused_in_one_line() -> None:
    z = raw(0, 6, 4)
    with pytest.raises(InputError, match=r"VICReg's covariance -1 is negative"):
        VICReg(covariance=-1)
    with pytest.raises(InputError, match=r"^VICReg takes one direction.*TwoView$"):
        VICReg()(one_direction(z, z), one_direction(z, z))
    with pytest.raises(InputError, match=r"^VICReg takes statistics over the batch, of 1 samples"):
        VICReg()(one_direction(z[:1], z[:1]))
