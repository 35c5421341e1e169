"""Cost of a loss: its share of a training step, timed while a trained run continues."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import lightning
import torch
from torch import Tensor

from contrast.callbacks import StepRandomness
from contrast.commands.building import build, evaluation_parser, import_from_here, resolve
from contrast.commands.configuration import Config
from contrast.compare.cells import read_json
from contrast.compare.grid import Cell, fingerprint
from contrast.evaluation import write_json
from contrast.losses import Loss
from contrast.pairs import Pairs
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint

__all__ = ["loss_cost", "measure"]

_WARM = 3  # steps before the first step that counts


def loss_cost(cell: Cell, config: Config, keys: Sequence[str], threads: int, steps: int = 30) -> dict[str, Any]:
    """Cost of a finished cell's loss, from the file of an earlier measurement if it was of the same configuration.

    Args:
        cell: the cell.
        config: its resolved configuration.
        keys: keys of this configuration; an earlier version may have given it another key.
        threads: number of threads, as of the cells.
        steps: number of steps that are timed.

    Returns:
        ``step_seconds`` and ``loss_seconds``, medians, and their ratio ``share``; all None if the method never calls
        its loss.

    Raises:
        InputError: if the file is damaged.
    """
    about = {"configuration": fingerprint(config), "threads": threads, "steps": steps}
    if cell.cost.exists():
        found = read_json(cell.cost)
        if _is_cost(found) and any({**about, "configuration": key}.items() <= found.items() for key in keys):
            return {name: found[name] for name in (*about, *_NUMBERS)}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        measured = about | measure(RunFolder(cell.folder), config, steps)
    finally:
        torch.set_num_threads(before)
    write_json(cell.cost, measured)
    return measured


_NUMBERS = ("step_seconds", "loss_seconds", "share")


def _is_cost(found: Any) -> bool:
    if not isinstance(found, dict) or not all(isinstance(found.get(name), float | None) for name in _NUMBERS):
        return False
    return found.keys() >= set(_NUMBERS) and not any(found[name] is not None and found[name] <= 0 for name in _NUMBERS)


def measure(folder: RunFolder, config: Config, steps: int) -> dict[str, float | None]:
    """Time whole training steps and the loss by itself, alternately, while the trained run continues.

    The run continues from its last checkpoint, so that queues are full and settings that start at a later epoch are
    active. A step lasts from the end of one batch to the end of the next: loading, views, forward, loss, backward,
    optimiser, bank. The loss alone is the loss on the pairs of the step (transforms, logits, objective, weighting) with
    its backward, to the embeddings and to the loss's own parameters.

    Args:
        folder: folder of the trained run.
        config: its resolved configuration.
        steps: number of steps that are timed.
    """
    import_from_here()
    parser = evaluation_parser(with_model=True)
    lightning.seed_everything(config["seed_everything"], verbose=False)
    typed, _ = resolve(parser, {name: config[name] for name in ("seed_everything", "model", "data")})
    built = build(parser, typed)
    watch = _Watch(built.model.loss)
    _continue(built, config, folder, [StepRandomness(config["seed_everything"]), watch], _WARM + steps)
    if not watch.losses:
        return dict.fromkeys(_NUMBERS)
    step, loss = median(watch.steps[_WARM - 1 :]), median(watch.losses[_WARM:])
    return {"step_seconds": step, "loss_seconds": loss, "share": loss / step}


def _continue(
    built: Any, config: dict[str, Any], folder: RunFolder, callbacks: list[lightning.Callback], steps: int
) -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers and loggers, for a run that is thrown away
        trainer = lightning.Trainer(
            accelerator="auto" if torch.cuda.is_available() else "cpu",
            devices=1,
            precision=config["trainer"]["precision"],
            max_epochs=-1,
            max_steps=int(read_checkpoint(folder.last_checkpoint)["global_step"]) + steps,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(built.model, datamodule=built.data, ckpt_path=folder.last_checkpoint, weights_only=True)


class _Watch(lightning.Callback):
    """Callback that times each step, and after it the loss on the pairs of the step."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self.steps: list[float] = []
        self.losses: list[float] = []
        self._pairs: tuple[Pairs, ...] = ()
        self._mark: float | None = None
        loss.register_forward_pre_hook(self._keep)

    def _keep(self, loss: Loss, pairs: tuple[Pairs, ...]) -> None:
        self._pairs = pairs

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = _clock()
        if self._mark is not None:
            self.steps.append(now - self._mark)
        if self._pairs:
            pairs, leaves = _cut(self._pairs)
            self.losses.append(_seconds(self._loss, pairs, leaves))
        self._pairs = ()
        self._mark = _clock()


def _cut(pairs: Sequence[Pairs]) -> tuple[tuple[Pairs, ...], list[Tensor]]:
    """Cut pairs off from the encoder.

    A tensor that is in several places remains one tensor: a loss may save work if the negatives are the queries.

    Returns:
        The pairs, and the tensors that receive the gradient in place of the encoder.
    """
    leaves: dict[int, Tensor] = {}

    def leaf(value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.requires_grad):
            return value
        return leaves.setdefault(id(value), value.detach().clone().requires_grad_())

    cut = tuple(replace(each, **{name: leaf(value) for name, value in vars(each).items()}) for each in pairs)
    return cut, list(leaves.values())


def _seconds(loss: Loss, pairs: Sequence[Pairs], leaves: list[Tensor]) -> float:
    wanted = [*leaves, *(parameter for parameter in loss.parameters() if parameter.requires_grad)]
    start = _clock()
    with torch.enable_grad():
        torch.autograd.grad(loss(*pairs).loss, wanted, allow_unused=True)
    return _clock() - start


def _clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
