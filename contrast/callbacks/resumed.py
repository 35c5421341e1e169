"""Start of a resumed run: checks what it restores, and records from which step on it has which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from contrast.callbacks.logger_calls import prepare
from contrast.errors import InputError
from contrast.records import mark_resumed
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file
from contrast.runs.history import Changed, write_history
from contrast.runs.next_command import new_run_command

__all__ = ["ResumedRecords", "Resumption"]


@dataclass(frozen=True)
class Resumption:
    """Starting point and settings of a resumed run.

    Attributes:
        step: number of completed optimiser steps.
        config: the resolved configuration from now on.
        changed: differences from the configuration in the checkpoint.
        configuration: new text of ``config.yaml``; None leaves the file unchanged.
        optimizers: class names of the optimisers in the checkpoint; empty where it does not state them.
        groups: for each optimiser, the names of the settings of its first parameter group.
    """

    step: int
    config: Mapping[str, Any]
    changed: Changed = field(default_factory=dict)
    configuration: str | None = None
    optimizers: Sequence[str] = ()
    groups: Sequence[frozenset[str]] = ()


class ResumedRecords(lightning.Callback):
    """Record a resume: a marker line in each file of rows, the new settings, and their history.

    The marker lets readers drop rows that the resumed run writes again. TensorBoard discards what it has of those
    steps; W&B cannot discard anything and keeps the values that it received first. Nothing is written until the
    checkpoint is restored and training begins, so a resume that is refused leaves the folder unchanged.

    Torch restores an optimiser's settings together with its state. Changed optimiser settings and a changed schedule
    still take effect from the first step on.

    Args:
        folder: the run folder.
        resumption: starting point and settings; None for a new run.

    Attributes:
        began: whether the checkpoint was restored and training has begun.

    Raises:
        InputError: when the checkpoint is restored, where a value in its progress, its schedules or its optimiser state
            has another type or shape than this run needs, or the optimiser's class differs from the checkpoint's.
    """

    def __init__(self, folder: RunFolder, resumption: Resumption | None = None) -> None:
        self.folder, self.resumption, self.began = folder, resumption, False
        self._settings: list[list[dict[str, Any]]] = []
        self._stored: Mapping[str, Any] = {}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._stored = {name: checkpoint.get(name) for name in ("optimizer_states", "lr_schedulers")}
        self._refuse(trainer, _not_counts(checkpoint.get("loops"), "loops"))
        for name, state in (checkpoint.get("callbacks") or {}).items():
            if not isinstance(state, Mapping):
                self._refuse(trainer, f"callbacks.{name} is {_shown(state)}, not a mapping")

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # The optimisers exist here, and the checkpoint's state is not restored yet.
        if self.resumption is None:
            return
        self._require_same_optimizers(trainer, self.resumption)
        self._refuse(trainer, _not_fitting(trainer, self._stored))
        self._stored = {}
        self._settings = [
            [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.began = True
        if self.resumption is not None:
            self._apply_changes(trainer, self.resumption.changed)
            self._write_settings(trainer, self.resumption)
        if trainer.ckpt_path is not None and trainer.is_global_zero:
            for logger in trainer.loggers:
                prepare(logger, trainer.global_step)
            for path in self.folder.records:
                mark_resumed(path, trainer.global_step)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.resumption is not None and not self.began:  # no step was left to train
            self._write_settings(trainer, self.resumption)

    def _write_settings(self, trainer: lightning.Trainer, resumption: Resumption) -> None:
        if not trainer.is_global_zero:
            return
        if resumption.configuration is not None:
            with whole_file(self.folder.config) as part:
                part.write_text(resumption.configuration)
        write_history(
            self.folder.history, resumption.step, trainer.current_epoch, resumption.changed, resumption.config
        )

    def _refuse(self, trainer: lightning.Trainer, wrong: str) -> None:
        if wrong:
            raise InputError(
                f"checkpoint {str(trainer.ckpt_path)!r} cannot be resumed from: {wrong}; the file was changed "
                f"after it was written: start a new run with: {new_run_command(self.folder)}"
            )

    def _require_same_optimizers(self, trainer: lightning.Trainer, resumption: Resumption) -> None:
        now = [type(optimizer).__name__ for optimizer in trainer.optimizers]
        groups = [frozenset(optimizer.param_groups[0]) for optimizer in trainer.optimizers]
        if list(resumption.optimizers or now) != now or (
            "model.optimizer" in resumption.changed and groups != list(resumption.groups)
        ):
            of = ", ".join(resumption.optimizers) or "another class"
            raise InputError(
                f"model.optimizer {', '.join(now)}: the checkpoint at step {resumption.step} holds the state of {of}, "
                f"and another optimiser cannot use it: keep model.optimizer as it was, or start a new run with: "
                f"{new_run_command(self.folder)}"
            )

    def _apply_changes(self, trainer: lightning.Trainer, changed: Changed) -> None:
        if not changed:
            return
        names = {key.rpartition(".")[2] for key in changed if key.startswith("model.optimizer.")}
        rate = "lr" in names or any(key.startswith("model.rate_") for key in changed)
        names |= {"initial_lr"} if rate else set()
        for optimizer, fresh in zip(trainer.optimizers, self._settings, strict=True):
            for group, settings in zip(optimizer.param_groups, fresh, strict=True):
                group.update({name: settings[name] for name in names - {"lr"} if name in settings})
        for each in trainer.lr_scheduler_configs:
            schedule = each.scheduler
            if isinstance(schedule, LambdaLR):
                groups = schedule.optimizer.param_groups
                schedule.base_lrs = [group["initial_lr"] for group in groups]
                for group, factor in zip(groups, schedule.lr_lambdas, strict=True):
                    group["lr"] = group["initial_lr"] * factor(schedule.last_epoch)


def _not_counts(value: Any, place: str) -> str:
    """What is wrong in the training progress of a checkpoint, which consists of counts; empty if nothing is."""
    if isinstance(value, Mapping):
        return next((wrong for key, each in value.items() if (wrong := _not_counts(each, f"{place}.{key}"))), "")
    if isinstance(value, list) and place.endswith(".combined_loader"):
        return next((wrong for i, each in enumerate(value) if (wrong := _not_counts(each, f"{place}[{i}]"))), "")
    return "" if isinstance(value, int) and value >= 0 else f"{place} is {_shown(value)}, not a count"


def _not_fitting(trainer: lightning.Trainer, stored: Mapping[str, Any]) -> str:
    """What in the stored schedules and optimiser states does not fit this run's; empty if all of it fits."""
    lists: dict[str, list[Any]] = {}
    for name in ("lr_schedulers", "optimizer_states"):
        value = stored.get(name)
        if not isinstance(value, list):
            return f"{name} is {_shown(value)}, not a list"
        lists[name] = value
    for i, (kept, each) in enumerate(zip(lists["lr_schedulers"], trainer.lr_scheduler_configs, strict=False)):
        if wrong := _other_kind(each.scheduler.state_dict(), kept, f"lr_schedulers[{i}]"):
            return wrong
    for i, (kept, optimizer) in enumerate(zip(lists["optimizer_states"], trainer.optimizers, strict=False)):
        place = f"optimizer_states[{i}]"
        groups = optimizer.state_dict()["param_groups"]
        if wrong := _other_kind(groups, kept["param_groups"], f"{place}.param_groups"):
            return wrong
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        if wrong := _other_state(weights, kept["state"], f"{place}.state"):
            return wrong
    return ""


def _other_kind(fresh: Any, stored: Any, place: str) -> str:
    """Where a stored value has another type than the value of a run that begins; empty if all types agree."""
    if isinstance(fresh, Mapping) and isinstance(stored, Mapping):
        parts = [(f"{place}.{key}", each, stored[key]) for key, each in fresh.items() if key in stored]
    elif isinstance(fresh, list | tuple) and isinstance(stored, list | tuple) and len(fresh) == len(stored):
        parts = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(fresh, stored, strict=True))]
    else:
        plain = stored is None or isinstance(stored, bool | int | float)
        agree = plain if fresh is None else _kind(fresh) is _kind(stored)
        return "" if agree else f"{place} is {_shown(stored)}, where a new run has {_shown(fresh)}"
    return next((wrong for name, a, b in parts if (wrong := _other_kind(a, b, name))), "")


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float) else type(value)


def _other_state(weights: Sequence[nn.Parameter], state: Any, place: str) -> str:
    """Where an optimiser's stored state does not fit its parameters; empty if all of it fits.

    An optimiser keeps the same entries for each parameter. What an entry is, is taken from most of the parameters:
    a tensor with the parameter's shape, another tensor, or a number.
    """
    if not isinstance(state, Mapping):
        return f"{place} is {_shown(state)}, not a mapping"
    entries: dict[str, list[tuple[str, Any, str]]] = {}
    for number, values in state.items():
        if not isinstance(number, int) or not 0 <= number < len(weights) or not isinstance(values, Mapping):
            return f"{place}[{number!r:.20}] is not the state of a parameter"
        for name, value in values.items():
            form = type(value).__name__
            if torch.is_tensor(value):
                form = "tensor" if value.shape != weights[number].shape else "shaped tensor"
            entries.setdefault(str(name), []).append((f"{place}[{number}].{name}", value, form))
    for values in entries.values():
        forms = [form for _, _, form in values]
        usual = max(forms, key=forms.count)
        alike = ("tensor", "shaped tensor") if usual == "tensor" else (usual,)
        for where, value, form in values:
            if form not in alike:
                return f"{where} is {_shown(value)}, unlike the entries of the other parameters"
    return ""


def _shown(value: Any) -> str:
    if torch.is_tensor(value):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{value!r:.60}"
