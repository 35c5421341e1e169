"""Rates by parameter group in training, against a slow step, and what the shipped recipes make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml

from contrast.cli import main
from contrast.commands.stored_defaults import with_stored_defaults
from contrast.methods import BYOL
from contrast.models import ConvNet
from contrast.optim import GroupRate
from tests.callbacks.fitting import fit, simclr

ROOT = Path(__file__).parents[2]


class SlowSteps(lightning.Callback):
    """Each parameter's own step of plain gradient descent, from its gradient and a rate by its name."""

    def __init__(self, method: Any, rate: Any) -> None:
        self.method, self.rate, self.checked = method, rate, 0
        self.expected: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.expected = {
            name: each.detach() - self.rate(name, trainer.global_step) * each.grad
            for name, each in self.method.named_parameters()
        }

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        for name, each in self.method.named_parameters():
            torch.testing.assert_close(each.detach(), self.expected[name], rtol=1e-6, atol=1e-7)
            self.checked += 1


def test_a_step_has_each_groups_rate(tmp_path: Path) -> None:
    """Six steps of two epochs, one epoch of warm-up: SGD at 0.5."""
    method = simclr()
    method._rates = {"norms_and_biases": GroupRate(0.024), "head": GroupRate(2.0, scheduled=False)}

    def rate(name: str, step: int) -> float:
        plain = name.endswith("bias") or dict(method.named_parameters())[name].ndim < 2
        course = 1.0 if name.startswith("head.") else method._schedule.factor(step, 6, 3)
        return 0.5 * course * (0.024 if plain else 1.0) * (2.0 if name.startswith("head.") else 1.0)

    steps = SlowSteps(method, rate)
    fit(tmp_path, method, [steps])
    assert steps.checked == 6 * len(list(method.parameters()))


def test_without_rates_a_checkpoints_groups_are_what_they_were(tmp_path: Path) -> None:
    trainer = fit(tmp_path, simclr(), [], max_epochs=1)
    groups = trainer.optimizers[0].param_groups
    assert len(groups) == 2
    assert not any({"rate_factor", "scheduled"} & group.keys() for group in groups)


def resolved(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    words = (ROOT / "configs/experiment" / f"{name}.yaml").read_text().splitlines()[0].split()[2:]
    assert main([*words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]


RECIPES = {
    # experiment: rates of the authors, relative to the weights' and to the run's schedule
    "digits_barlow_twins": None,  # as measured: docs/methods/barlow_twins.md
    "digits_simsiam": {"predictor": {"factor": 1.0, "scheduled": False}},
    "digits_mocov3": None,  # likewise
    "imagenet_simclr": {"norms_and_biases": {"factor": 2.0, "scheduled": True}},
    "cifar10_simclr": {"norms_and_biases": {"factor": 2.0, "scheduled": True}},
    "digits_byol": None,
    "digits_vicreg": None,
    "imagenet_mocov2": None,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_its_authors_rates(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    found, expected = resolved(name, capsys)["rates"], RECIPES[name]
    assert (found or {}).keys() == (expected or {}).keys()
    for group, rate in (expected or {}).items():
        assert found[group] == pytest.approx(rate)


@pytest.mark.parametrize(("name", "factor"), [("barlow_twins", 0.0048 / 0.2), ("mocov3", 4 * 1.0)])
def test_a_methods_own_recipe_has_two_rates(name: str, factor: float) -> None:
    recipe = yaml.safe_load((ROOT / "configs/method" / f"{name}.yaml").read_text())
    assert recipe["model"]["init_args"]["rates"] == {"norms_and_biases": {"factor": pytest.approx(factor)}}


def test_further_values_of_the_recipes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("imagenet100_simclr", "stl10_simclr"):  # 0.075 times the root of the batch size
        found = resolved(name, capsys)
        assert (found["rate_scaling"], found["rate_reference"]) == ("sqrt", 1)
        assert found["optimizer"]["init_args"]["lr"] == 0.075
    for name in ("digits_mocov2", "digits_simsiam"):
        assert resolved(name, capsys)["schedule"]["init_args"]["every"] == "epoch"
    assert resolved("digits_mocov3", capsys)["schedule"]["init_args"]["every"] == "step"
    assert resolved("cifar10_simclr", capsys)["head"]["init_args"]["layers"] == 3
    byol = resolved("digits_byol", capsys)
    assert byol["head"]["init_args"]["bias"] is byol["predictor"]["init_args"]["bias"] is False


def test_byols_heads_end_without_a_bias_and_a_stored_runs_with_one() -> None:
    stored = {"class_path": "contrast.methods.BYOL", "init_args": {"head": None, "predictor": None}}
    for settings, biased in (({}, False), (with_stored_defaults({"model": stored})["model"]["init_args"], True)):
        with torch.device("meta"):
            method = BYOL(ConvNet((4, 8), channels=1, image_size=8), **settings)
        assert [head.layers[-1].bias is not None for head in (method.head, method.predictor)] == [biased] * 2
