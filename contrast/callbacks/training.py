"""Callbacks around every training step: per-step random seed, non-finite loss, progress bar, inactive pieces."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import lightning
import torch
from tqdm.auto import tqdm

from contrast.banks import MemoryBank
from contrast.distributed import gather_detached
from contrast.doctor.data_rules import input_findings
from contrast.errors import RunStopped
from contrast.losses import Piece
from contrast.methods import ContrastiveMethod
from contrast.methods.base import require_a_rate
from contrast.randomness import Purpose, seed_from
from contrast.records import read_object
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file
from contrast.runs.length import MayStartLate

__all__ = ["FiniteLoss", "Inactive", "Progress", "StepRandomness"]


class StepRandomness(lightning.Callback):
    """Reseed torch's random generators from (seed, epoch, batch, rank) before each step, for reproducible resumes.

    Layers such as dropout draw from torch's global generator, whose state is not in the checkpoint. With this callback,
    a run that resumes within an epoch draws the same numbers as an uninterrupted run.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = seed_from(self.seed, Purpose.STEP, trainer.current_epoch, batch_idx, trainer.global_rank)
        if pl_module.device.type == "cpu":
            # torch.manual_seed gives the same seed, but also keeps a stack trace for unused devices: 0.8 ms.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)


class FiniteLoss(lightning.Callback):
    """Stop at the first NaN or infinite loss, and report the step, the value and the likely cause.

    On a CPU every step is checked. On other devices the first bad step is recorded on the device without synchronising.
    It is read every few steps and before each checkpoint, so that no checkpoint is ever written after it.

    Args:
        folder: the run folder, for the message that says how to continue.
        every_n_steps: steps between checks on a device other than the CPU.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 25) -> None:
        self.folder, self.every_n_steps = folder, every_n_steps
        self._noted: torch.Tensor | None = None  # step, loss, whether embeddings were finite

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["output"].loss.double()
        alone = trainer.world_size == 1
        if alone and loss.device.type == "cpu" and loss.isfinite():  # no synchronisation, and nothing to record
            return
        finite = [pairs.query.isfinite().all() for pairs in outputs["output"].pairs]
        embeddings = torch.stack(finite).all() if finite else torch.ones_like(loss)
        seen = torch.stack([torch.full_like(loss, trainer.global_step), loss, embeddings.double()])
        if self._noted is None:
            self._noted = torch.zeros_like(seen)
        self._noted = torch.where(self._noted[1].isfinite(), seen, self._noted)
        if loss.device.type == "cpu" or trainer.global_step % self.every_n_steps == 0:
            self._ask(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._ask(trainer, pl_module)

    def _ask(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._noted is None:
            return
        # Gather from all processes, so that they stop together: if one process stopped alone, the others would wait for
        # it.
        of_all = gather_detached(self._noted[None]).tolist()
        bad = [noted for noted in of_all if not math.isfinite(noted[1])]
        if not bad:
            return
        step, value, embeddings = min(bad)
        loss = pl_module.loss.describe() if isinstance(pl_module.loss, Piece) else str(pl_module.loss)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        cause = (
            f"the embeddings were finite, so the loss overflowed ({loss}): raise its temperature"
            if embeddings
            else f"the encoder output NaN or Inf at rate {rate:g}: lower the rate, warm up longer or clip gradients"
        )
        broken = [each for each in input_findings(read_object(self.folder.input) or {}) if each.severity == "problem"]
        if broken:
            cause = f"{broken[0].rule}: {broken[0].seen} {broken[0].fix}".rstrip(".")
        kept = f"the last good checkpoint is {self.folder.last_checkpoint}"
        if not self.folder.last_checkpoint.exists():
            kept = "no checkpoint had been written yet"
        raise RunStopped(f"the loss was {value} at step {int(step)}; likely cause: {' '.join(cause.split())}; {kept}")


_FORMAT = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def _fitting(bar: Any, numbers: list[str]) -> str:
    """As many of the numbers as fit beside a bar of ten columns, which is the width that tqdm reserves by default."""
    shown = bar.format_dict
    columns = shown["ncols"]
    for count in range(len(numbers), 0, -1):
        text = ", ".join(numbers[:count])
        whole = bar.format_meter(**{**shown, "ncols": None, "postfix": text})
        if columns is None or len(whole) <= columns:
            return text
    return ""


class Progress(lightning.Callback):
    """Progress bar over all steps of the run on stderr, with loss, speed, online accuracy and learning rate.

    On a narrow terminal the last numbers are left out, so that no number is cut and the bar keeps ten columns.

    Args:
        every_n_steps: steps between updates of the numbers, to avoid synchronising with a fast device.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._bar: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            self._bar = tqdm(
                total=total,
                initial=trainer.global_step,
                desc="pretrain",
                file=sys.stderr,
                mininterval=0.5,
                dynamic_ncols=True,
                bar_format=_FORMAT,
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % self.every_n_steps and self._bar.n < self._bar.total:
            return
        elapsed = self._bar.format_dict["elapsed"]
        done = (self._bar.n - self._bar.initial) * trainer.accumulate_grad_batches
        numbers = {
            "loss": f"{outputs['loss'].item():.3f}",
            "samples/s": f"{done * len(batch.index) * trainer.world_size / max(elapsed, 1e-9):,.0f}",
        }
        accuracy = trainer.callback_metrics.get("online/knn_top1")
        if accuracy is not None:
            numbers["kNN"] = f"{accuracy:.1%}"
        numbers["rate"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.2g}"
        planned = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}{planned}", refresh=False)
        self._bar.set_postfix_str(
            _fitting(self._bar, [f"{name}={text}" for name, text in numbers.items()]), refresh=False
        )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Inactive(lightning.Callback):
    """Warn about pieces that never act because they start after the end of the run; write them to ``inactive.json``.

    Each such piece gives one line on stderr. The loss's pieces, the banks, the schedule and the callbacks are asked
    (`MayStartLate`). The file is rewritten whenever the run is resumed, so that an extended run is judged by its new
    length. The doctor and the report read it.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not isinstance(pl_module, ContrastiveMethod):
            return
        for optimizer in trainer.optimizers:
            require_a_rate(optimizer)
        if not trainer.is_global_zero:
            return
        run = pl_module.run_length()
        callbacks = [each for each in trainer.callbacks if isinstance(each, MayStartLate)]  # type: ignore[attr-defined]
        found: dict[str, dict[str, str | bool]] = {}
        for piece in (*pl_module.pieces_that_may_start_late(), *callbacks):
            reason = piece.never_acts(run)
            if reason is not None:  # several banks of one size give the same reason
                bank = isinstance(piece, MemoryBank)
                found[reason] = {"piece": type(piece).__name__, "reason": reason, "bank": bank}
        content = {"steps": run.steps, "epochs": run.epochs, "pieces": list(found.values())}
        with whole_file(self.folder.inactive) as part:
            part.write_text(json.dumps(content) + "\n")
        for reason in found:
            tqdm.write(f"note    {reason}", file=sys.stderr)
