"""AMCL against loops: a temperature for each pair and head, and its cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from contrast import Pairs, in_batch_pairs
from contrast.commands.stored_defaults import with_stored_defaults
from contrast.errors import InputError
from contrast.losses import (
    HCL,
    AdaptiveTemperature,
    ContrastiveLoss,
    Debiased,
    HardestNegative,
    HardNegativeMixing,
    InfoNCE,
    amcl_logits,
)
from contrast.losses import temperature as module
from contrast.losses.logits import DenseNegatives, TiledNegatives, positive_logits
from contrast.losses.temperature import temperature_cost
from tests.losses.examples import adaptive, against_queue, in_batch, rows, with_gradient
from tests.reference import transforms as reference

small = settings(deadline=None, max_examples=10)

Form = Literal["concat", "product"]
FORMS: tuple[Form, ...] = ("concat", "product")


def loops(temperature: AdaptiveTemperature, pairs: Pairs, head: int | None, objective: str) -> list[torch.Tensor]:
    """Each query's loss of one head: eq. 2.1, eq. 2.4 or InfoNCE over the same logits."""
    of_head = (lambda rows: rows) if head is None else (lambda rows: rows[head])
    query, positive, shared = of_head(pairs.query), of_head(pairs.positive), of_head(pairs.negatives)
    losses = []
    for i in range(len(pairs.index)):
        candidates = [row for row, of in zip(shared, pairs.negative_index, strict=True) if of != pairs.index[i]]
        if pairs.own_negatives is not None:
            candidates += [*of_head(pairs.own_negatives)[i]]
        logits = []
        for other in (positive[i], *candidates):
            tau = reference.network_tau(temperature.network, query[i], other, 0.05, 0.5, temperature.form)
            logits.append(reference.amcl_logit(query[i], other, tau, temperature.beta))
        scores = [float((query[i] @ other).detach()) for other in (positive[i], *candidates)]
        if objective == "InfoNCE":
            losses.append(torch.log(sum(torch.exp(each - logits[0]) for each in logits)))
            continue
        first = 0 if objective == "2.4" else 1
        star = max(range(first, len(scores)), key=lambda place: scores[place])
        losses.append(logits[star] - logits[0])
    return losses


OBJECTIVES = {"2.1": HardestNegative(), "2.4": HardestNegative(positive_competes=True), "InfoNCE": InfoNCE()}


@small
@given(
    st.integers(0, 10_000), st.sampled_from([0, 1, 3]), st.sampled_from([0.0, 0.01, 1.0]), st.booleans(),
    st.sampled_from(FORMS),
)  # fmt: skip
def test_amcl_is_the_sum_over_heads_of_the_loops(seed: int, heads: int, beta: float, queue: bool, form: Form) -> None:
    pairs = against_queue(seed, 3, 5, heads=heads) if queue else in_batch(seed, 2, heads=heads)
    pairs = HardNegativeMixing(hardest=2, pairs=1, queries=1, start_epoch=0)(pairs)
    if (pairs.own_negative_index == -2).any():
        return
    temperature = adaptive(beta=beta, form=form)
    for name, objective in OBJECTIVES.items():
        by_head = [loops(temperature, pairs, head, name) for head in (range(heads) if heads else [None])]
        expected = torch.stack([torch.stack(each) for each in by_head]).sum(dim=0)
        found = ContrastiveLoss(objective, temperature)(pairs).losses
        torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-10)


@small
@given(st.integers(0, 10_000), st.floats(0.275, 0.45))
def test_a_constant_temperature_without_its_cost_is_info_nce(seed: int, tau: float) -> None:
    temperature = AdaptiveTemperature(6, hidden_width=3, beta=0, form="product").double()
    for parameter in temperature.parameters():
        parameter.data.zero_()
    # φ is its last bias alone, so τ is the sigmoid of a square: from the middle of its range upwards.
    agreement = torch.logit(torch.tensor((tau - 0.05) / (0.5 - 0.05), dtype=torch.float64))
    temperature.network[2].bias.data[0] = agreement.clamp(min=0).sqrt()
    pairs = in_batch(seed, 4)
    torch.testing.assert_close(
        ContrastiveLoss(InfoNCE(), temperature)(pairs).loss, ContrastiveLoss(InfoNCE(), tau)(pairs).loss
    )


def test_the_cost_is_smallest_at_two_over_the_width_and_is_a_gaussian_likelihood() -> None:
    tau = torch.linspace(0.01, 1, 9901, dtype=torch.float64)
    assert tau[temperature_cost(tau, 8).argmin()].item() == pytest.approx(2 / 8, abs=1e-4)
    z, other = rows(0, 1, 8)[0], rows(1, 1, 8)[0]
    for tau in (0.1, 0.5, 2.0):
        gaussian = torch.distributions.MultivariateNormal(z, tau * torch.eye(8, dtype=torch.float64))
        likelihood = gaussian.log_prob(other) + 4 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
        found = amcl_logits(z @ other, torch.tensor(tau, dtype=torch.float64), beta=1.0, width=8)
        torch.testing.assert_close(found, likelihood)


@pytest.mark.parametrize("form", FORMS)
def test_temperatures_are_between_their_bounds_and_of_both_rows_alike(form: Form) -> None:
    temperature = adaptive(form=form)
    for parameter in temperature.parameters():
        parameter.data.mul_(4 if form == "product" else 2)
    z, other = rows(0, 40, 6), rows(1, 40, 6)
    tau = temperature.of_pairs(z[:, None], other[None])
    assert tau.shape == (40, 40)
    assert tau.min() >= 0.05
    assert tau.max() <= 0.5
    assert tau.std() > 0.02
    torch.testing.assert_close(temperature.of_pairs(other[:, None], z[None]), tau.T)
    torch.testing.assert_close(temperature.of_pairs(z, other), tau.diagonal())
    bounded = AdaptiveTemperature(6, lowest=0.2, highest=0.3, form=form).double()
    far = bounded.of_pairs(z * 1e3, z * 1e3)
    assert 0.2 - 1e-12 <= far.min() <= far.max() <= 0.3 + 1e-12
    assert form == "concat" or far.max().item() == pytest.approx(0.3)


@pytest.mark.parametrize("shape", [(1,), (4,), (1, 1), (3, 1), (1, 4), (3, 4)])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("form", FORMS)
def test_pairs_of_every_shape_that_a_loss_asks_for(shape: tuple[int, ...], size: int, form: Form) -> None:
    """One query, one row, one head: a size of 1 is not broadcast by accident."""
    temperature = adaptive(form=form)
    *heads, count = shape
    query, positive = rows(0, *shape, 6), rows(1, *shape, 6)
    shared, own = rows(2, *heads, size, 6), rows(3, *shape, size, 6)

    def one_by_one(query: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        query, other = torch.broadcast_tensors(query, other)
        pairs = zip(query.reshape(-1, 6), other.reshape(-1, 6), strict=True)
        taus = [reference.network_tau(temperature.network, z, of, 0.05, 0.5, form) for z, of in pairs]
        return torch.stack(taus).view(query.shape[:-1])

    cases = [
        (query, positive),
        (query[..., :, None, :], shared[..., None, :, :]),
        (query[..., :, None, :], own),
    ]
    for first, second in cases:
        found = temperature.of_pairs(first, second)
        torch.testing.assert_close(found, one_by_one(first, second))
    assert temperature.of_pairs(*cases[1]).shape == (*heads, count, size)


def test_what_needs_a_score_without_embeddings_is_refused() -> None:
    pairs = in_batch(0, 4)
    for objective in (Debiased(), HCL()):
        with pytest.raises(InputError, match="InfoNCE, DCL or HardestNegative"):
            ContrastiveLoss(objective, adaptive())(pairs)
    with pytest.raises(InputError, match="width 5 got embeddings of width 6"):
        ContrastiveLoss(InfoNCE(), adaptive(5))(pairs)
    # Without a share of false negatives there is no floor, and no score without embeddings.
    torch.testing.assert_close(
        ContrastiveLoss(HCL(0.0, 0.0), adaptive())(pairs).loss, ContrastiveLoss(InfoNCE(), adaptive())(pairs).loss
    )


@small
@given(st.integers(0, 10_000), st.sampled_from([0, 3]), st.sampled_from([24, 100, 1 << 18]), st.booleans())
def test_concat_has_the_gradients_of_a_slow_loop_in_blocks_of_any_size(
    seed: int, heads: int, block: int, queue: bool
) -> None:
    """Of query, positive, negatives and the network, dense and tiled."""
    pairs = against_queue(seed, 3, 5, heads=heads) if queue else in_batch(seed, 2, heads=heads)
    temperature = adaptive(beta=0.1)

    def gradients(losses: Callable[[Pairs], torch.Tensor]) -> list[torch.Tensor]:
        leaves = with_gradient(pairs)
        of = [leaves.query, leaves.positive, leaves.negatives, *temperature.parameters()]
        return list(torch.autograd.grad(losses(leaves).sum(), of))

    def slow(leaves: Pairs) -> torch.Tensor:
        of_heads = [loops(temperature, leaves, head, "InfoNCE") for head in (range(heads) if heads else [None])]
        return torch.stack([torch.stack(each) for each in of_heads]).sum(dim=0)

    def in_tiles(leaves: Pairs) -> torch.Tensor:
        negatives = TiledNegatives(leaves, temperature, columns=2)
        return InfoNCE()(positive_logits(leaves, temperature), negatives)

    def dense(leaves: Pairs) -> torch.Tensor:
        return InfoNCE()(positive_logits(leaves, temperature), DenseNegatives(leaves, temperature))

    expected = gradients(slow)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CPU_BLOCK", block)
        for form in (in_tiles, dense):
            for found, right in zip(gradients(form), expected, strict=True):
                torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-12)


def test_concat_never_holds_its_inputs_or_hidden_units_for_all_pairs() -> None:
    """The largest tensor that is made in forward and backward is the matrix of scores, not `hidden` times that."""
    temperature = AdaptiveTemperature(16, hidden_width=64)
    query = torch.nn.functional.normalize(torch.randn(300, 16), dim=-1).requires_grad_()
    keys = torch.nn.functional.normalize(torch.randn(400, 16), dim=-1)

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for each in result if isinstance(result, tuple | list) else [result]:
                if isinstance(each, torch.Tensor):
                    self.elements = max(self.elements, each.untyped_storage().nbytes() // each.element_size())
            return result

    with Largest() as largest:
        tau = temperature.of_pairs(query[:, None], keys[None])
        tau.sum().backward()
    assert tau.shape == (300, 400)
    assert largest.elements <= max(300 * 400, module._CPU_BLOCK) < 300 * 400 * 64


def trained_alone(form: Form, steps: int = 400) -> torch.Tensor:
    """τ of the positive pairs after the network alone was trained: embeddings fixed, two views close to each other."""
    torch.manual_seed(0)
    centre = torch.nn.functional.normalize(torch.randn(32, 32), dim=-1)
    views = torch.nn.functional.normalize(centre + 0.1 * torch.randn(2, 32, 32) / 32**0.5, dim=-1)
    pairs = in_batch_pairs(views[0], views[1], torch.arange(32))
    temperature = AdaptiveTemperature(32, 32, form=form)
    loss, optimizer = ContrastiveLoss(InfoNCE(), temperature), torch.optim.Adam(temperature.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(pairs).loss.backward()
        optimizer.step()
    return temperature.of_pairs(pairs.query, pairs.positive).detach()


def test_amcl_temperature_adapts() -> None:
    """The loss wants a low τ for positives; the product form stays at the middle of its range, 0.275."""
    assert trained_alone("concat").mean() < 0.275 - 0.05
    product = trained_alone("product")
    assert (product - 0.275).abs().max() < 0.01


def test_a_stored_temperature_without_a_form_is_the_product() -> None:
    """Configurations and checkpoints of earlier versions know no form; their state dict has these names and shapes."""
    stored = {"class_path": "contrast.losses.AdaptiveTemperature", "init_args": {"width": 6, "hidden_width": 4}}
    loss = {"class_path": "contrast.losses.ContrastiveLoss", "init_args": {"temperature": stored}}
    model = {"class_path": "contrast.methods.SimCLR", "init_args": {"loss": loss}}
    filled = with_stored_defaults({"model": model})["model"]["init_args"]["loss"]["init_args"]["temperature"]
    temperature = AdaptiveTemperature(**filled["init_args"])
    assert temperature.form == "product"
    shapes = {name: tuple(each.shape) for name, each in temperature.state_dict().items()}
    assert shapes == {
        "network.0.weight": (4, 6), "network.0.bias": (4,), "network.2.weight": (4, 4), "network.2.bias": (4,),
    }  # fmt: skip
    assert AdaptiveTemperature().form == "concat"
    given = {**stored, "init_args": {**stored["init_args"], "form": "concat"}}
    loss["init_args"]["temperature"] = given
    kept = with_stored_defaults({"model": model})["model"]["init_args"]["loss"]["init_args"]["temperature"]
    assert kept["init_args"]["form"] == "concat"


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match=r"no form 'prodct'; did you mean 'product'\? known: concat, product"):
        inspect.unwrap(AdaptiveTemperature.__init__)(AdaptiveTemperature.__new__(AdaptiveTemperature), form="prodct")
