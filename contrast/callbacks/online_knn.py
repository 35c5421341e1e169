"""How good the features are while they are being learned: weighted kNN, which trains nothing."""

from __future__ import annotations

from collections.abc import Iterable

import lightning
import torch
from torch import Tensor

from contrast.callbacks.metrics import record
from contrast.data import TrainingData
from contrast.data.batch import LabelledBatch
from contrast.errors import InputError
from contrast.evaluation.knn import knn_top1
from contrast.run_folder import RunFolder

__all__ = ["OnlineKNN"]


class OnlineKNN(lightning.Callback):
    """Top-1 accuracy of weighted kNN on the backbone's features every few epochs, as ``online/knn_top1``.

    Before the first step too: what random weights have is what training is to be held against.

    It is a gauge to watch, on the test set and with fixed k, and never chooses anything: report `contrast knn` or
    `contrast probe` instead. Without labels or without a test set it is silent.

    Args:
        folder: the run folder.
        every_n_epochs: between gaugings; 0 never.
        neighbours: k; 200 is usual on large sets, 20 on small ones.
        temperature: t in the weight ``exp(s / t)``.
        limit: samples of the train set that are neighbours, and of the test set that are classified, at most.
    """

    def __init__(
        self,
        folder: RunFolder,
        every_n_epochs: int = 10,
        neighbours: int = 20,
        temperature: float = 0.1,
        limit: int = 20_000,
    ) -> None:
        if every_n_epochs < 0 or neighbours < 1 or limit < 1:
            raise InputError(
                f"online_knn.every_n_epochs {every_n_epochs} must be at least 0 (never), neighbours {neighbours} and "
                f"limit {limit} at least 1"
            )
        self.folder, self.every_n_epochs = folder, every_n_epochs
        self.neighbours, self.temperature, self.limit = neighbours, temperature, limit

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.every_n_epochs and trainer.global_step == 0:
            accuracy = self._accuracy(trainer, pl_module)
            if accuracy is not None:
                record(self.folder, trainer, {"online/knn_top1": accuracy})

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.current_epoch + 1
        last = done == trainer.max_epochs
        if not self.every_n_epochs or (done % self.every_n_epochs and not last):
            return
        accuracy = self._accuracy(trainer, pl_module)
        if accuracy is not None:
            pl_module.log("online/knn_top1", accuracy, logger=False, sync_dist=True)
            record(self.folder, trainer, {"online/knn_top1": accuracy})

    def _accuracy(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> float | None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TrainingData):
            return None
        labelled = data.train_labels is not None and bool((data.train_labels >= 0).all())
        if data.test_set is None or not labelled:
            return None
        keys, labels = self._features(pl_module, data, data.evaluation_loader("train", self.limit))
        queries, truth = self._features(pl_module, data, data.evaluation_loader("test", self.limit))
        if int(truth.min()) < 0:
            return None
        labels, truth = data.consecutive(labels), data.consecutive(truth)
        neighbours = min(self.neighbours, len(keys))
        return knn_top1(queries, truth, keys, labels, data.classes, neighbours, self.temperature)

    @torch.no_grad()
    def _features(
        self, module: lightning.LightningModule, data: TrainingData, loader: Iterable[LabelledBatch]
    ) -> tuple[Tensor, Tensor]:
        features, labels = [], []
        training = {part: part.training for part in module.modules()}
        module.eval()
        for batch in loader:
            inputs = data.standardisation(batch.inputs.to(module.device))
            features.append(module(inputs).float())
            labels.append(batch.label)
        for part, was_training in training.items():
            part.training = was_training
        return torch.cat(features), torch.cat(labels).to(module.device)
