"""Barlow Twins and AMCL's eq. 2.3: reference numbers, properties, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.errors import InputError
from contrast.losses import AdaptiveTemperature, BarlowTwins, amcl_barlow, cross_correlation
from tests.golden_cases import cases, close
from tests.losses.second_door import one_direction, raw
from tests.reference.second_door import barlow_twins


def test_the_authors_numbers() -> None:
    names = []
    for _, parameters, arrays in cases("barlow_twins"):
        z1, z2 = arrays["z1"].requires_grad_(), arrays["z2"].requires_grad_()
        loss = BarlowTwins(parameters["lambd"])(one_direction(z1, z2)).loss
        loss.backward()
        close(loss.detach(), arrays["official/loss"])
        close(z1.grad, arrays["official/grad_z1"])
        close(z2.grad, arrays["official/grad_z2"])
        names.append(parameters["inputs"])
    assert len(names) == 12


def test_amcl_equation_2_3() -> None:
    seen = 0
    for _, parameters, arrays in cases("amcl"):
        if parameters["eq"] != "2.3":
            continue
        names = ("corr", "tau_pos", "tau_neg")
        correlation, positive, negative = (arrays[name].requires_grad_() for name in names)
        eye = torch.eye(parameters["d"], dtype=torch.bool)
        tau = torch.where(eye, positive[..., None], negative)
        loss = amcl_barlow(correlation, tau, parameters["lambd"], parameters["beta"])
        loss.backward()
        close(loss.detach(), arrays["loss"])
        for name, leaf in zip(names, (correlation, positive, negative), strict=True):
            close(leaf.grad, arrays[f"grad_{name}"])
        seen += 1
    assert seen == 3


@pytest.mark.parametrize("redundancy", [0.0, 0.0051, 1.0])
def test_the_loop(redundancy: float) -> None:
    z1, z2 = raw(0, 7, 4), raw(1, 7, 4) + 3
    loss = BarlowTwins(redundancy)(one_direction(z1, z2)).loss
    assert loss.item() == pytest.approx(barlow_twins(z1, z2, redundancy), rel=1e-10)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 9), width=st.integers(1, 6))
def test_order_scale_and_heads_do_not_matter(seed: int, count: int, width: int) -> None:
    z1, z2 = raw(seed, count, width), raw(seed + 1, count, width)
    loss = BarlowTwins()(one_direction(z1, z2)).loss
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(BarlowTwins()(one_direction(z1[order], z2[order])).loss, loss)
    torch.testing.assert_close(BarlowTwins()(one_direction(z1[None], z2[None])).loss, loss)
    torch.testing.assert_close(BarlowTwins()(one_direction(z2, z1)).loss, loss)
    twice = BarlowTwins()(one_direction(torch.stack([z1, z2]), torch.stack([z2, z2]))).loss
    torch.testing.assert_close(twice, loss + BarlowTwins()(one_direction(z2, z2)).loss)
    assert BarlowTwins()(one_direction(z1, z2)).losses is None


@pytest.mark.parametrize("heads", [(), (2,)], ids=["one head", "2 heads"])
def test_temperatures_are_of_pairs_of_dimensions(heads: tuple[int, ...]) -> None:
    """Each τ_lm is of column l of one view and m of the other, centred and of length 1; Ω's d is the width."""
    torch.manual_seed(0)
    count, width = 5, 3
    temperature = AdaptiveTemperature(width=count, hidden_width=4, beta=0.1).double()
    z1, z2 = raw(0, *heads, count, width), raw(1, *heads, count, width)
    found = BarlowTwins(0.3, temperature)(one_direction(z1, z2)).loss
    total = 0.0
    for first, second in zip(z1.reshape(-1, count, width), z2.reshape(-1, count, width), strict=True):
        for one in range(width):
            for other in range(width):
                a, b = first[:, one] - first[:, one].mean(), second[:, other] - second[:, other].mean()
                tau = temperature.of_pairs(a / a.norm(), b / b.norm()).item()
                score = float(a @ b) / count / ((a.var(correction=0) + 1e-5) * (b.var(correction=0) + 1e-5)).sqrt()
                cost = 0.1 * (width / 2 * torch.tensor(tau, dtype=torch.float64).log() + 1 / tau)
                total += (1 - score / tau) ** 2 + cost if one == other else 0.3 * score**2 / tau - cost
    torch.testing.assert_close(found, torch.as_tensor(total), rtol=1e-9, atol=1e-9)
    found.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in temperature.parameters())


def test_temperature_1_without_its_cost_is_barlow_twins() -> None:
    z1, z2 = raw(0, 6, 4), raw(1, 6, 4)
    correlation = cross_correlation(z1, z2)
    plain = BarlowTwins(0.2)(one_direction(z1, z2)).loss
    torch.testing.assert_close(amcl_barlow(correlation, torch.ones_like(correlation), 0.2, 0.0), plain)


def test_half_precision_and_dimensions_without_variance_stay_finite() -> None:
    z = raw(0, 8, 4, dtype=torch.bfloat16)
    z[:, 0] = 1000
    z.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = BarlowTwins()(one_direction(z, z.detach())).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert z.grad.isfinite().all()


def test_what_is_refused_in_one_line() -> None:
    z = raw(0, 6, 4)
    with pytest.raises(InputError, match=r"redundancy -1 is negative"):
        BarlowTwins(-1)
    with pytest.raises(InputError, match=r"^BarlowTwins takes one direction, query and positive, not 2: .*TwoView$"):
        BarlowTwins()(one_direction(z, z), one_direction(z, z))
    with pytest.raises(InputError, match=r"width 128 and the global batch 6 samples: set loss.temperature.width"):
        BarlowTwins(temperature=AdaptiveTemperature())(one_direction(z, z))
    with pytest.raises(InputError, match=r"of 1 samples: give at least 2"):
        BarlowTwins()(one_direction(z[:1], z[:1]))
