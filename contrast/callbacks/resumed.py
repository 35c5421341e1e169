"""Start of a resumed run: checks what it restores, and records from which step on it has which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
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
        InputError: when training starts, where the optimiser's class differs from the checkpoint's.
    """

    def __init__(self, folder: RunFolder, resumption: Resumption | None = None) -> None:
        self.folder, self.resumption, self.began = folder, resumption, False
        self._settings: list[list[dict[str, Any]]] = []

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # The optimisers exist here, and the checkpoint's state is not restored yet.
        if self.resumption is None:
            return
        self._require_same_optimizers(trainer, self.resumption)
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
