"""What a loss costs: its share of a training step, timed in the run's own loop."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import torch
from torch import Tensor

from contrast.callbacks import StepRandomness
from contrast.commands.building import build, evaluation_parser, import_from_here, resolve
from contrast.commands.configuration import read_yaml
from contrast.evaluation import write_json
from contrast.losses import Loss
from contrast.pairs import Pairs
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint

__all__ = ["loss_cost", "measure"]

_WARM = 3  # steps before the first that counts


def loss_cost(folder: Path, kept: Path, key: str, threads: int, steps: int = 30) -> dict[str, Any]:
    """The cost of a finished cell's loss, from the file of an earlier measurement if it is of the same thing.

    Args:
        folder: the cell's.
        kept: the file.
        key: fingerprint of the cell's configuration.
        threads: to compute with, as the cells did.
        steps: that are timed.
    """
    about = {"configuration": key, "threads": threads, "steps": steps}
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        if about.items() <= found.items():
            return found
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = about | measure(RunFolder(folder), steps)
    finally:
        torch.set_num_threads(before)
    write_json(kept, found)
    return found


def measure(folder: RunFolder, steps: int) -> dict[str, float | None]:
    """Medians of whole training steps and of the loss alone, taken in turns while the trained run goes on.

    It goes on from its last checkpoint, so that what begins at some epoch has begun and queues are full. A step is
    from one batch's end to the next one's: loading, views, forward, loss, backward, optimiser, bank. The loss alone is
    the loss on the step's pairs (transforms, logits, objective, weighting) and its backward, to the embeddings and to
    the loss's own parameters. None where a method never calls its loss.
    """
    config = read_yaml(folder.config)
    import_from_here()
    parser = evaluation_parser(with_model=True)
    lightning.seed_everything(config["seed_everything"], verbose=False)
    typed, _ = resolve(parser, {name: config[name] for name in ("seed_everything", "model", "data")})
    built = build(parser, typed)
    watch = _Watch(built.model.loss)
    _go_on(built, config, folder, [StepRandomness(config["seed_everything"]), watch], _WARM + steps)
    if not watch.losses:
        return {"step_seconds": None, "loss_seconds": None, "share": None}
    step, loss = median(watch.steps[_WARM - 1 :]), median(watch.losses[_WARM:])
    return {"step_seconds": step, "loss_seconds": loss, "share": loss / step}


def _go_on(
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
    """Times each step, and after it the loss on the step's pairs."""

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
    """The pairs cut off from the encoder, and the tensors that take the gradient in its place.

    A tensor that stands in several places stays one: a loss may save work where negatives are the queries.
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
