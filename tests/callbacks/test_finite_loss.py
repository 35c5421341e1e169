"""A loss that is no number: noticed at its step, told with its cause, and never saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import lightning
import pytest
import torch

from contrast import Pairs, in_batch_pairs
from contrast.callbacks import Checkpoints, FiniteLoss
from contrast.errors import RunStopped
from contrast.losses import DCL, ContrastiveLoss, LossOutput
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import Steps, fit, simclr


class Spoil(lightning.Callback):
    """Makes one step's weights or temperature such that its loss is no number."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step - 1:
            if self.what == "encoder":
                with torch.no_grad():
                    next(pl_module.backbone.parameters()).fill_(float("nan"))
            else:
                pl_module.loss.temperature.value = 1e-42  # a score over it is beyond float32


@pytest.mark.parametrize(
    ("what", "value", "cause"),
    [
        ("encoder", "nan", "the encoder output NaN or Inf at rate"),
        ("temperature", "(nan|inf|-inf)", "the embeddings were finite, so the loss overflowed"),
    ],
)
@pytest.mark.parametrize("step", [1, 5])
def test_the_run_stops_at_the_step_and_says_why(what: str, value: str, cause: str, step: int, tmp_path: Path) -> None:
    folder, method = RunFolder(tmp_path), simclr(ContrastiveLoss(DCL(), 0.2))
    watch = [Spoil(step, what), FiniteLoss(folder), Checkpoints(folder, {}, every_n_steps=1)]
    with pytest.raises(RunStopped, match=f"the loss was {value} at step {step}; likely cause: {cause}") as stopped:
        fit(tmp_path, method, watch)
    assert stopped.value.exit_code == 1
    assert "\n" not in str(stopped.value)
    if step == 1:
        assert "no checkpoint had been written yet" in str(stopped.value)
        assert not folder.last_checkpoint.exists()
    else:
        assert f"the last good checkpoint is {folder.last_checkpoint}" in str(stopped.value)
        kept = torch.load(folder.last_checkpoint, weights_only=True)
        assert kept["global_step"] == step - 1
        assert all(weight.isfinite().all() for weight in kept["state_dict"].values())


def test_on_a_cpu_every_step_is_looked_at(tmp_path: Path) -> None:
    steps = Steps()
    with pytest.raises(RunStopped, match="at step 4"):
        fit(tmp_path, simclr(), [Spoil(4, "encoder"), steps, FiniteLoss(RunFolder(tmp_path))])
    assert len(steps.losses) == 4


def test_a_finite_run_is_left_alone(tmp_path: Path) -> None:
    fit(tmp_path, simclr(), [FiniteLoss(RunFolder(tmp_path))])


class Elsewhere(torch.Tensor):
    """A loss that says it is on another device, where asking for a number costs a wait."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # a stand-in
        return torch.device("cuda")


def step(watch: FiniteLoss, number: int, value: float) -> None:
    z = torch.nn.functional.normalize(torch.randn(4, 3), dim=-1)
    pairs: Pairs = in_batch_pairs(z, z, torch.arange(4))
    trainer = Mock(lightning.Trainer, global_step=number, optimizers=[Mock(param_groups=[{"lr": 0.1}])])
    output = LossOutput(torch.tensor(value).as_subclass(Elsewhere), None, None, (pairs,))
    watch.on_train_batch_end(trainer, simclr(), {"output": output}, None, 0)


def test_elsewhere_it_asks_every_few_steps_and_tells_the_first_bad_one(tmp_path: Path) -> None:
    watch = FiniteLoss(RunFolder(tmp_path), every_n_steps=10)
    for number in range(1, 14):
        step(watch, number, 1.0)
    for number, value in ((14, float("inf")), (15, float("nan")), (16, 1.0), (19, float("nan"))):
        step(watch, number, value)
    with pytest.raises(RunStopped, match="the loss was inf at step 14"):
        step(watch, 20, 1.0)


def test_elsewhere_it_asks_before_every_checkpoint(tmp_path: Path) -> None:
    watch = FiniteLoss(RunFolder(tmp_path), every_n_steps=10)
    trainer = Mock(lightning.Trainer, optimizers=[Mock(param_groups=[{"lr": 0.1}])])
    watch.on_save_checkpoint(trainer, simclr(), {})  # nothing seen yet
    step(watch, 1, 1.0)
    watch.on_save_checkpoint(trainer, simclr(), {})
    step(watch, 2, float("nan"))
    with pytest.raises(RunStopped, match="the loss was nan at step 2"):
        watch.on_save_checkpoint(trainer, simclr(), {})
