"""Record the loss history of positive pairs, and the pairs that bad-pair mining flags."""

from __future__ import annotations

import json
from typing import Any

import lightning
from torch import Tensor

from contrast.callbacks.gallery import Gallery
from contrast.callbacks.pair_history import EpochOfPairs, PairHistory, require_history
from contrast.data import TrainingData
from contrast.errors import InputError
from contrast.losses import LogitLoss, LossOutput, PairWeighting
from contrast.methods import ContrastiveMethod
from contrast.records import append_row
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file

__all__ = ["FlaggedPairs", "PairRecorder"]


class FlaggedPairs(lightning.Callback):
    """Record flagged samples in ``flagged.jsonl``, at the end of each epoch in which a weighting flags samples.

    A row has step, epoch, the weighting's `flag_statistics`, and the indices of the flagged samples by the name of the
    flag. For `BadPairMining`: mean and standard deviation of the samples' mean losses, `noisy` (loss too low) and
    `faulty` (loss too high).

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for weighting in pl_module.modules():
            if not isinstance(weighting, PairWeighting) or trainer.current_epoch < weighting.warmup_epochs:
                continue
            flagged = {name: each.nonzero().flatten().tolist() for name, each in weighting.flags().items()}
            if flagged:
                place = {"step": trainer.global_step, "epoch": trainer.current_epoch}
                append_row(self.folder.flagged, {**place, **weighting.flag_statistics(), **flagged})


_MOST_NAMES = 100_000


class PairRecorder(lightning.Callback):
    """Record the loss history of pairs in ``pairs/``, and a gallery of notable pairs in ``gallery.jsonl``.

    Args:
        folder: the run folder.
        epochs: approximate number of epochs, evenly spaced, whose loss and positive score of every sample are saved.
            The last epoch is always saved. 0 saves none, and no gallery.
        gallery: approximate number of epochs, evenly spaced, for which notable pairs are drawn. The last epoch is
            always drawn. 0 draws none.

    Raises:
        InputError: where a number is negative.
    """

    def __init__(self, folder: RunFolder, epochs: int = 40, gallery: int = 5) -> None:
        if epochs < 0 or gallery < 0:
            raise InputError(f"pairs.epochs {epochs} and pairs.gallery {gallery} must be at least 0 (none)")
        self.folder, self.epochs, self.gallery = folder, epochs, gallery
        self._history: PairHistory | None = None
        self._loaded: dict[str, Tensor] = {}
        self._gallery = Gallery(folder)
        self._last_batch = self._named = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        data = getattr(trainer, "datamodule", None)
        if self.epochs and isinstance(data, TrainingData):
            self._history = PairHistory(data.train_samples, pl_module.device, data.identity.numbering)
            if self._loaded:
                self._history.load(self._loaded)
            self._loaded = {}

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._last_batch = batch_idx == trainer.num_training_batches - 1

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        output, loss_of = pl_module.seen, pl_module.loss
        if self._history is None or not isinstance(output, LossOutput):
            return
        self._history.add(output)
        # Every process looks, although only the first process draws: an objective may gather queries from all
        # processes.
        due = self._last_batch and _due(trainer, pl_module, self.gallery)
        if due and isinstance(loss_of, LogitLoss):
            self._gallery.collect(loss_of, output.pairs[0])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self._history is None:
            return
        epoch = self._history.end_epoch(_flags(pl_module))
        if not trainer.is_global_zero:
            return
        if _due(trainer, pl_module, self.epochs) or _due(trainer, pl_module, self.gallery):
            epoch.save(self.folder.pairs / f"epoch-{trainer.current_epoch:05}.safetensors", self._history.numbering)
            self._history.save_all_epochs(self.folder.pairs / "all_epochs.safetensors")
            self._save_names(trainer)
        if _due(trainer, pl_module, self.gallery):
            self._draw(trainer, epoch)

    def state_dict(self) -> dict[str, Any]:
        return self._loaded if self._history is None else self._history.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            require_history(state_dict)
        self._loaded = state_dict

    def _save_names(self, trainer: lightning.Trainer) -> None:
        """Save the file names of the samples, once per process.

        This is skipped for a data set that is too large for a page to read quickly.
        """
        data = getattr(trainer, "datamodule", None)
        names = data.sample_names("train") if isinstance(data, TrainingData) and not self._named else None
        self._named = True
        if names is not None and self._history is not None and len(names) <= _MOST_NAMES:
            with whole_file(self.folder.pairs / "samples.json") as part:
                # ASCII, because a file name may contain bytes that are not valid text.
                part.write_text(json.dumps({"numbering": self._history.numbering, "paths": names}) + "\n")

    def _draw(self, trainer: lightning.Trainer, epoch: EpochOfPairs) -> None:
        data = getattr(trainer, "datamodule", None)
        assert isinstance(data, TrainingData)
        self._gallery.draw(data, epoch, trainer.current_epoch, trainer.global_step)


def _flags(pl_module: lightning.LightningModule) -> dict[str, Tensor]:
    """Flags of the first weighting that has any."""
    every = (module.flags() for module in pl_module.modules() if isinstance(module, PairWeighting))
    return next((flags for flags in every if flags), {})


def _due(trainer: lightning.Trainer, pl_module: lightning.LightningModule, count: int) -> bool:
    """Whether this epoch is one of `count` epochs spaced evenly over the run, or the last epoch."""
    if not count or not isinstance(pl_module, ContrastiveMethod):
        return False
    steps = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
    epochs = -(-pl_module.planned_steps // max(1, steps))
    done = trainer.current_epoch + 1
    return done % -(-epochs // count) == 0 or done == epochs
