"""LARS against a loop that reads like SimCLR's, groups, rates, and properties of the schedules."""

from __future__ import annotations

import copy
import inspect
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from contrast.errors import InputError
from contrast.optim import LARS, Constant, GroupRate, Schedule, Steps, WarmupCosine, parameter_groups, scaled_rate

quick = settings(deadline=None, max_examples=60)


def simclrs_step(weight: list[float], grad: list[float], velocity: list[float], **given: float | bool) -> None:
    """One weight, in place, number by number."""
    for i in range(len(weight)):
        grad[i] += given["weight_decay"] * weight[i]
    ratio = 1.0
    if given["adapt"]:
        weight_norm = math.sqrt(sum(each**2 for each in weight))
        grad_norm = math.sqrt(sum(each**2 for each in grad))
        if weight_norm > 0 and grad_norm > 0:
            ratio = given["trust_coefficient"] * weight_norm / grad_norm
    for i in range(len(weight)):
        velocity[i] = given["momentum"] * velocity[i] + given["lr"] * ratio * grad[i]
        weight[i] -= velocity[i]


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lars_equals_the_loop(weight_decay: float, momentum: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    nn.init.zeros_(network[2].weight)  # a norm of zero: no adaptation
    groups = parameter_groups(network)
    optimizer = LARS(groups, lr=0.5, momentum=momentum, weight_decay=weight_decay, trust_coefficient=0.02)
    plain = {id(each) for each in groups[1]["params"]}
    weights = [each.detach().flatten().tolist() for each in network.parameters()]
    velocities = [[0.0] * len(each) for each in weights]
    for step in range(5):
        rate = 0.5 / (1 + step)  # a changing rate tells classic momentum from torch's
        for group in optimizer.param_groups:
            group["lr"] = rate
        for weight, velocity, each in zip(weights, velocities, network.parameters(), strict=True):
            each.grad = torch.randn_like(each) if step != 2 else torch.zeros_like(each)
            decayed = id(each) not in plain
            simclrs_step(
                weight,
                each.grad.flatten().tolist(),
                velocity,
                lr=rate,
                momentum=momentum,
                weight_decay=weight_decay if decayed else 0.0,
                trust_coefficient=0.02,
                adapt=decayed,
            )
        optimizer.step()
        for weight, each in zip(weights, network.parameters(), strict=True):
            torch.testing.assert_close(
                each.flatten(), torch.tensor(weight, dtype=torch.float64), rtol=1e-12, atol=1e-13
            )


def test_lars_leaves_gradients_and_skipped_parameters_alone() -> None:
    seen, skipped = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    seen.grad = torch.full((2, 2), 0.5)
    optimizer = LARS([seen, skipped], lr=0.1, weight_decay=0.1)
    optimizer.step()
    assert torch.equal(seen.grad, torch.full((2, 2), 0.5))
    assert (skipped == 1).all()
    assert (seen < 1).all()


def test_lars_resumes_and_calls_its_closure() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(3, 2)
    theirs = copy.deepcopy(ours)

    def closure(network: nn.Module) -> Tensor:
        network.zero_grad()
        loss = network(torch.ones(1, 3)).square().sum()
        loss.backward()
        return loss

    first, other = LARS(parameter_groups(ours), lr=0.1), LARS(parameter_groups(theirs), lr=0.1)
    losses = [first.step(lambda: closure(ours)) for _ in range(4)]
    assert losses[3] < losses[0]
    for step in range(4):
        if step == 2:
            again = LARS(parameter_groups(theirs), lr=0.7)
            again.load_state_dict(other.state_dict())
            other = again
        other.step(lambda: closure(theirs))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_lars_refuses() -> None:
    weight = [nn.Parameter(torch.ones(1))]
    for name, value in (("lr", -1.0), ("weight_decay", -0.5), ("momentum", 1.5), ("trust_coefficient", 0.0)):
        with pytest.raises(InputError, match=f"{name} {value:g} "):
            LARS(weight, **{"lr": 0.1, name: value})
    with pytest.raises(InputError, match="lr nan"):
        LARS(weight, lr=math.nan)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, LARS])
def test_every_optimiser_takes_the_groups(kind: type[torch.optim.Optimizer]) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    network.register_parameter("temperature", nn.Parameter(torch.tensor(0.1)))
    network[3].weight.requires_grad_(False)
    weights, others = parameter_groups(network)
    assert [id(each) for each in weights["params"]] == [id(network[0].weight)]
    plain = [network.temperature, network[0].bias, network[1].weight, network[1].bias, network[3].bias]
    assert [id(each) for each in others["params"]] == [id(each) for each in plain]
    optimizer = kind(parameter_groups(network), lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]
    assert optimizer.param_groups[1]["adapt"] is False
    network(torch.randn(4, 1, 3, 3)).square().sum().backward()
    kept = network[3].weight.clone()
    optimizer.step()
    assert torch.equal(network[3].weight, kept)


def test_a_module_without_weights_still_has_two_groups() -> None:
    assert [len(group["params"]) for group in parameter_groups(nn.BatchNorm1d(3))] == [0, 2]
    torch.optim.SGD(parameter_groups(nn.BatchNorm1d(3)), lr=0.1)


def names_of(network: nn.Module, group: dict) -> list[str]:
    of = {id(each): name for name, each in network.named_parameters()}
    return [of[id(each)] for each in group["params"]]


def test_rates_by_parameter_group() -> None:
    network = nn.ModuleDict(
        {"backbone": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "predictor": nn.Linear(4, 2)}
    )
    plain = parameter_groups(network)
    assert parameter_groups(network, {}) == plain
    assert all("rate_factor" not in group for group in plain)

    rates = {"norms_and_biases": GroupRate(0.5), "predictor": GroupRate(3.0, scheduled=False)}
    groups = parameter_groups(network, rates)
    found = [(names_of(network, group), group["rate_factor"], group["scheduled"]) for group in groups]
    assert found == [
        (["backbone.0.weight"], 1.0, True),
        (["predictor.weight"], 3.0, False),
        (["backbone.0.bias", "backbone.1.weight", "backbone.1.bias"], 0.5, True),
        (["predictor.bias"], 1.5, False),
    ]
    assert [group.get("weight_decay") for group in groups] == [None, None, 0.0, 0.0]
    one, others = parameter_groups(network, {"backbone.1": GroupRate(0.0), "weights": GroupRate(2.0)})[:2]
    assert (names_of(network, one), one["rate_factor"]) == (["backbone.0.weight", "predictor.weight"], 2.0)
    assert (names_of(network, others), others["rate_factor"]) == (["backbone.0.bias", "predictor.bias"], 1.0)


@pytest.mark.parametrize("name", ["predictr", "pred", "backbone.9", "", "bias"])
def test_a_rate_of_nothing_is_refused(name: str) -> None:
    network = nn.ModuleDict({"backbone": nn.Linear(3, 4), "predictor": nn.Linear(4, 2)})
    with pytest.raises(InputError, match=rf"^rates: '{name}' holds no trained parameter; .*known: backbone, "):
        parameter_groups(network, {name: GroupRate(0.1)})
    network.predictor.requires_grad_(False)
    with pytest.raises(InputError, match="'predictor' holds no trained parameter"):
        parameter_groups(network, {"predictor": GroupRate(0.1)})


@pytest.mark.parametrize("factor", [-1.0, math.inf, math.nan])
def test_a_factor_that_is_not_a_rate_is_refused(factor: float) -> None:
    with pytest.raises(InputError, match="must be finite and at least 0"):
        GroupRate(factor)


def test_a_constant_factor_of_the_loss_reaches_norms_and_biases_through_lars() -> None:
    """LARS cancels it for weights alone: at four times the loss a norm moves four times as far."""
    moved = []
    for factor in (1, 4):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
        before = {name: each.detach().clone() for name, each in network.named_parameters()}
        (factor * network(torch.randn(8, 3, dtype=torch.float64)).square().sum()).backward()
        LARS(parameter_groups(network), lr=0.6).step()
        moved.append({name: (each.detach() - before[name]).norm() for name, each in network.named_parameters()})
    ratios = {name: (moved[1][name] / moved[0][name]).item() for name in moved[0]}
    del ratios["0.bias"]  # a norm follows, so its gradient is 0
    assert {name: round(ratio, 6) for name, ratio in ratios.items()} == {
        "0.weight": 1.0, "1.weight": 4.0, "1.bias": 4.0, "2.weight": 1.0, "2.bias": 4.0,
    }  # fmt: skip


def test_rates() -> None:
    assert scaled_rate(0.3, 4096, "linear") == pytest.approx(4.8)  # SimCLR's
    assert scaled_rate(0.075, 4096, "sqrt", reference=1) == pytest.approx(4.8)  # SimCLR's other
    assert scaled_rate(0.03, 128, "linear", reference=128) == 0.03
    assert scaled_rate(0.03, 1024, "sqrt", reference=64) == pytest.approx(0.12)
    assert scaled_rate(0.03, 512, "none") == 0.03
    for arguments in ((-0.1, 8, "none", 256), (0.1, 0, "none", 256), (0.1, 8, "none", 0)):
        with pytest.raises(InputError, match=r"rate -0\.1 is below 0|batch size 0"):
            scaled_rate(*arguments)
    with pytest.raises(InputError, match="unknown rule 'square'"):
        inspect.unwrap(scaled_rate)(0.1, 8, "square")


RUNS = st.tuples(st.integers(1, 20), st.integers(1, 20))  # steps an epoch, epochs
WARMUPS = st.one_of(st.integers(0, 5).map(float), st.floats(0, 5))


def curve(schedule: Schedule, per_epoch: int, epochs: int) -> list[float]:
    return [schedule.factor(step, per_epoch * epochs, per_epoch) for step in range(per_epoch * epochs + 1)]


@quick
@given(RUNS, WARMUPS, st.floats(0, 1))
def test_warmup_cosine(run: tuple[int, int], warmup: float, final: float) -> None:
    per_epoch, epochs = run
    factors = curve(WarmupCosine(warmup, final), per_epoch, epochs)
    rise, total = warmup * per_epoch, per_epoch * epochs
    assert all(0 <= each <= 1 + 1e-12 for each in factors)
    assert factors[0] > 0
    peak = min(math.ceil(rise), total)
    assert all(a < b for a, b in pairwise(factors[:peak]))
    assert all(a >= b for a, b in pairwise(factors[peak:]))
    slope = 1 / (rise + 1) + math.pi / 2 / max(total - rise, 1)
    assert all(abs(a - b) <= slope for a, b in pairwise(factors))
    if rise < total:
        assert factors[-1] == pytest.approx(final, abs=1e-12)
        after = [step for step in range(total + 1) if step >= rise]
        middle = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (after[0] - rise) / (total - rise)))
        assert factors[after[0]] == pytest.approx(middle)


def test_cosine_written_out() -> None:
    factors = curve(WarmupCosine(warmup_epochs=2, final=0.2), per_epoch=2, epochs=6)
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[8] == pytest.approx(0.6)
    assert factors[12] == pytest.approx(0.2)
    assert WarmupCosine(0).factor(0, 10, 1) == 1.0
    assert WarmupCosine(0).factor(99, 10, 1) == pytest.approx(0.0)


@quick
@given(RUNS, WARMUPS, st.floats(0, 1))
def test_a_cosine_by_epoch_has_the_rate_of_each_epochs_first_step(
    run: tuple[int, int], warmup: float, final: float
) -> None:
    per_epoch, epochs = run
    by_step = curve(WarmupCosine(warmup, final), per_epoch, epochs)
    by_epoch = curve(WarmupCosine(warmup, final, every="epoch"), per_epoch, epochs)
    rise = warmup * per_epoch
    for step, factor in enumerate(by_epoch):
        if step < rise or rise >= per_epoch * epochs:
            assert factor == by_step[step]
        else:
            first = step // per_epoch * per_epoch
            assert factor == (by_step[first] if first >= rise else 1.0)


def test_the_cosine_of_moco_v2s_authors() -> None:
    """main_moco.py:497-506: the rate of epoch e of E is ½ (1 + cos(π e / E))."""
    factors = curve(WarmupCosine(0, every="epoch"), per_epoch=7, epochs=200)
    for step, factor in enumerate(factors[:-1]):
        assert factor == pytest.approx(0.5 * (1 + math.cos(math.pi * (step // 7) / 200)), abs=1e-15)
    with pytest.raises(InputError, match="every is 'epochs'; did you mean 'epoch'"):
        inspect.unwrap(WarmupCosine.__init__)(WarmupCosine.__new__(WarmupCosine), every="epochs")


@quick
@given(RUNS, WARMUPS)
def test_constant(run: tuple[int, int], warmup: float) -> None:
    per_epoch, epochs = run
    for step, factor in enumerate(curve(Constant(warmup), per_epoch, epochs)):
        assert factor == (1.0 if step >= warmup * per_epoch else (step + 1) / (warmup * per_epoch + 1))


@quick
@given(RUNS, st.lists(st.integers(1, 15), unique=True, max_size=3).map(sorted), st.floats(0, 1))
def test_steps(run: tuple[int, int], milestones: list[int], factor: float) -> None:
    per_epoch, epochs = run
    for step, share in enumerate(curve(Steps(milestones, factor), per_epoch, epochs)):
        expected = 1.0
        for milestone in milestones:
            if step // per_epoch >= milestone:
                expected *= factor
        assert share == pytest.approx(expected)


def test_moco_v1s_steps() -> None:
    schedule = Steps([120, 160])
    assert [schedule.factor(epoch * 10, 2000, 10) for epoch in (0, 119, 120, 159, 160, 199)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert schedule.factor(1199, 2000, 10) == 1
    assert Steps([3], warmup_epochs=1).factor(0, 50, 9) == pytest.approx(0.1)


def test_schedules_drive_torchs_lambda() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    schedule = WarmupCosine(warmup_epochs=1)
    driver = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.factor(step, 6, 2))
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        driver.step()
    assert rates == pytest.approx([2 * schedule.factor(step, 6, 2) for step in range(6)])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_schedules_refuse() -> None:
    for kind in (WarmupCosine, Constant):
        with pytest.raises(InputError, match=f"{kind.__name__}'s warmup_epochs -1"):
            kind(warmup_epochs=-1)
    with pytest.raises(InputError, match=r"final 1\.5"):
        WarmupCosine(final=1.5)
    for milestones in ([0, 3], [3, 3], [5, 4]):
        with pytest.raises(InputError, match="must rise"):
            Steps(milestones)
    with pytest.raises(InputError, match="factor 2"):
        Steps([3], factor=2)
    with pytest.raises(InputError, match="Steps's warmup_epochs -2"):
        Steps([3], warmup_epochs=-2)
