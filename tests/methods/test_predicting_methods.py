"""MoCo v3, SimSiam and BYOL: reference numbers, who is predicted from what, what moves and what gets a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from contrast import cross_pairs
from contrast.errors import InputError
from contrast.losses import (
    LOOK,
    AdaptiveTemperature,
    BYOLLoss,
    ContrastiveLoss,
    InfoNCE,
    Loss,
    SimSiamLoss,
    SupCon,
)
from contrast.methods.base import rising_momentum
from contrast.models import MLPHead, MultiHead
from tests.golden_cases import cases, close
from tests.methods.small_methods import HEAD, batch, small
from tests.reference.second_door import byol, sim_siam

normalize = nn.functional.normalize


def several(width: int) -> MultiHead:
    return MultiHead(width, HEAD, 3)


def test_moco_v3s_loss_is_4_tau_times_ours() -> None:
    """The authors sum two directions of 2τ times a mean; ours is the mean of both."""
    seen = 0
    for _, parameters, arrays in cases("mocov3"):
        tau, query, key = parameters["tau"], arrays["q_raw"].requires_grad_(), arrays["k_raw"]
        index = torch.arange(len(key))
        pairs = cross_pairs(normalize(query, dim=-1), normalize(key, dim=-1), index)
        loss = ContrastiveLoss(InfoNCE(), tau)
        one_way = 2 * tau * loss(pairs).loss
        one_way.backward()
        close(one_way.detach(), arrays["loss"])
        close(query.grad, arrays["grad_q"])
        close(4 * tau * loss(pairs, pairs).loss.detach(), 2 * arrays["loss"])
        seen += 1
    assert seen == 19


@pytest.mark.parametrize("name", ["MoCoV3", "BYOL", "SimSiam"])
def test_each_views_prediction_meets_the_other_views_target(name: str) -> None:
    method, given = small(name), batch(0)
    target = {"MoCoV3": "key_encoder", "BYOL": "target"}.get(name)
    encoder = nn.Sequential(method.backbone, method.head)
    slow = getattr(method, target) if target else encoder
    with torch.no_grad():
        for parameter in method.predictor.parameters():
            parameter.add_(0.1)
        if target:  # else it would still be what the network is
            for parameter in slow.parameters():
                parameter.mul_(1.5).add_(0.1)
    pairs = method.pairs(given)
    for direction, each in enumerate(pairs):
        mine, other = given.inputs[direction], given.inputs[1 - direction]
        torch.testing.assert_close(each.query, normalize(method.predictor(encoder(mine)), dim=-1))
        torch.testing.assert_close(each.positive, normalize(slow(other), dim=-1).detach())
        assert each.query.requires_grad
        assert not each.positive.requires_grad
        assert each.view.tolist() == [direction] * 8
        assert each.index.tolist() == list(range(8))
        expected = 8 if name == "MoCoV3" else 0
        assert each.negatives.shape[0] == expected
    assert len(pairs) == 2


@pytest.mark.parametrize("name", ["MoCoV3", "BYOL"])
def test_the_target_moves_towards_the_network_by_a_rising_momentum(name: str) -> None:
    method = small(name, momentum=0.75)
    target = method.key_encoder if name == "MoCoV3" else method.target
    before = [parameter.clone() for parameter in target.parameters()]
    encoder = nn.Sequential(method.backbone, method.head)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    for progress, share in ((0.0, 0.25), (0.5, 0.125), (1.0, 0.0)):
        method.progress = lambda progress=progress: progress
        method.pairs(batch(0))
        before = [old + share * (new - old) for old, new in zip(before, encoder.parameters(), strict=True)]
        for old, now in zip(before, target.parameters(), strict=True):
            torch.testing.assert_close(now, old)


def test_rising_momentum() -> None:
    assert rising_momentum(0.996, 0.0) == 0.996
    assert rising_momentum(0.996, 1.0) == 1.0
    assert rising_momentum(0.996, 1 / 3) == pytest.approx(1 - 0.004 * 0.75)


def test_progress_is_the_share_of_the_runs_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    method = small("BYOL")
    assert method.progress() == 0.0
    method._total_steps = 8
    monkeypatch.setattr(type(method), "global_step", 2)
    assert method.progress() == 0.25
    monkeypatch.setattr(type(method), "global_step", 9)
    assert method.progress() == 1.0


@pytest.mark.parametrize("name", ["NNCLR", "MoCoV3", "SimSiam", "BYOL"])
def test_the_predictor_is_trained_and_no_target_is(name: str) -> None:
    method = small(name)
    trained = {id(parameter) for parameter in method.trained().parameters()}
    wanted = nn.ModuleList([method.backbone, method.head, method.predictor]).parameters()
    assert trained == {id(parameter) for parameter in wanted}
    method.training_step(batch(0), 0)["loss"].backward()
    method.on_after_backward()
    for parameter in method.parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained)


def test_losses_of_the_whole_methods() -> None:
    for name, reference in (("SimSiam", sim_siam), ("BYOL", byol)):
        method, given = small(name), batch(0)
        rows: list[Tensor] = [method.head(method.backbone(view)) for view in given.inputs]
        predictions = [method.predictor(each) for each in rows]
        found = method.training_step(given, 0)["loss"].item()
        detached = [each.detach() for each in (*predictions, *rows)]  # the target is still the network's copy
        assert found == pytest.approx(float(reference(*detached)), rel=1e-5)


def test_a_simsiam_predictor_of_several_heads_is_amcls() -> None:
    torch.manual_seed(0)
    loss = SimSiamLoss(AdaptiveTemperature(8, 8))
    method = small("SimSiam", predictor=several, loss=loss)
    pairs = method.pairs(batch(0))
    for each in pairs:
        assert each.query.shape == each.positive.shape == (3, 8, 8)
        assert torch.equal(each.positive[0], each.positive[2])
    method.training_step(batch(0), 0)["loss"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_papers_values() -> None:
    with torch.device("meta"):
        v3, simsiam, byol_ = (small(name, head=None, predictor=None) for name in ("MoCoV3", "SimSiam", "BYOL"))
    assert [each.predictor.output_width for each in (v3, simsiam, byol_)] == [256, 2048, 256]
    assert (v3.momentum, byol_.momentum) == (0.99, 0.996)
    assert v3.loss.temperature.value == 1.0
    assert sum(isinstance(each, nn.Linear) for each in simsiam.head.layers) == 3
    assert isinstance(simsiam.loss, SimSiamLoss)
    assert isinstance(byol_.loss, BYOLLoss)


@pytest.mark.parametrize("name", ["SimSiam", "BYOL"])
@pytest.mark.parametrize(
    "loss",
    [ContrastiveLoss(InfoNCE()), SupCon(torch.zeros(8, dtype=torch.int64)), LOOK(torch.zeros(8, dtype=torch.int64))],
)
def test_losses_of_negatives_are_refused_where_there_are_none(name: str, loss: Loss) -> None:
    with pytest.raises(InputError, match=rf"^{name} cannot host {type(loss).__name__}: {name} has no negatives: use"):
        small(name, loss=loss)


@pytest.mark.parametrize("name", ["MoCoV3", "BYOL", "SimSiam"])
def test_what_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} takes one projection head, not a MultiHead"):
        small(name, head=several)
    with pytest.raises(InputError, match=rf"^{name}'s predictor has output_width 9 and its head 8"):
        small(name, predictor=lambda width: MLPHead(width, output_width=9))
    if name != "SimSiam":
        with pytest.raises(InputError, match=rf"^{name} takes one predictor, not a MultiHead"):
            small(name, predictor=several)
        with pytest.raises(InputError, match=rf"^{name}'s momentum 1.5 is outside"):
            small(name, momentum=1.5)
