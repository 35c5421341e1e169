"""Online kNN evaluation during training: weighted kNN on the backbone's features, without any training of its own."""

from __future__ import annotations

import sys

import lightning
import torch
from torch import Tensor
from tqdm.auto import tqdm

from contrast.callbacks.metrics import record
from contrast.data import TrainingData
from contrast.data.training_data import Split
from contrast.errors import InputError
from contrast.evaluation.encoder import AreaAverage, averaged_shape
from contrast.evaluation.knn import knn_top1
from contrast.run_folder import RunFolder

__all__ = ["OnlineKNN"]

RAW_VALUES = 1024
"""Largest number of values of a raw sample; the search over 20,000 x 20,000 samples then takes 0.8 TFLOP."""


class OnlineKNN(lightning.Callback):
    """Online kNN accuracy: top-1 accuracy of weighted kNN on the backbone's features, as ``online/knn_top1``.

    It is measured every few epochs, and before the first step, where the accuracy of random weights is a baseline. Two
    more baselines are measured once, before the first step:

    - ``online/raw_input_knn_top1``: the same kNN on standardised samples, averaged by area to at most 1,024 values.
    - ``online/majority_class``: share of the test samples that belong to the most frequent class of the train samples.

    This is a monitor on the test set with fixed k. It never chooses anything; for results to report, use `contrast knn`
    or `contrast probe`. Without labels or without a test set it does nothing.

    Args:
        folder: the run folder.
        every_n_epochs: epochs between measurements; 0 never.
        neighbours: k; 200 is usual on large sets, 20 on small sets.
        temperature: t in the weight ``exp(s / t)``.
        limit: largest number of train samples to search, and of test samples to classify.

    Raises:
        InputError: where a number is out of range.
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
        data = getattr(trainer, "datamodule", None)
        if self.every_n_epochs and trainer.is_global_zero and isinstance(data, TrainingData) and data.test_set:
            samples = min(data.train_samples, self.limit)
            if self.neighbours > samples:
                tqdm.write(
                    f"note    online_knn.neighbours {self.neighbours}: only {samples} train samples are searched, so "
                    "all of them vote on every test sample",
                    file=sys.stderr,
                )
        if self.every_n_epochs and trainer.global_step == 0:
            row = self._measured(trainer, pl_module, with_baselines=True)
            if row:
                record(self.folder, trainer, row)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.current_epoch + 1
        last = done == trainer.max_epochs
        if not self.every_n_epochs or (done % self.every_n_epochs and not last):
            return
        row = self._measured(trainer, pl_module)
        if row:
            pl_module.log("online/knn_top1", row["online/knn_top1"], logger=False, sync_dist=True)
            record(self.folder, trainer, row)

    def _measured(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, with_baselines: bool = False
    ) -> dict[str, float]:
        """Row to record; empty where the data have no labels or no test set."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, TrainingData):
            return {}
        labelled = data.train_labels is not None and bool((data.train_labels >= 0).all())
        if data.test_set is None or not labelled:
            return {}
        keys, raw_keys, labels = self._features(pl_module, data, "train", with_baselines)
        queries, raw_queries, truth = self._features(pl_module, data, "test", with_baselines)
        if int(truth.min()) < 0:
            return {}
        labels, truth = data.consecutive(labels), data.consecutive(truth)
        settings = (labels, data.classes, min(self.neighbours, len(keys)), self.temperature)
        row = {"online/knn_top1": knn_top1(queries, truth, keys, *settings)}
        if with_baselines and trainer.is_global_zero:  # all processes would find the same
            row["online/raw_input_knn_top1"] = knn_top1(raw_queries, truth, raw_keys, *settings)
            row["online/majority_class"] = float((truth == torch.bincount(labels).argmax()).double().mean())
        return row

    @torch.no_grad()
    def _features(
        self, module: lightning.LightningModule, data: TrainingData, split: Split, with_raw: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features, raw input (empty if not requested) and labels, on the module's device."""
        features, raw, labels = [], [], []
        average = AreaAverage(averaged_shape(data.input_shape, RAW_VALUES))
        training = {part: part.training for part in module.modules()}
        module.eval()
        for batch in data.evaluation_loader(split, self.limit):
            inputs = data.standardisation(batch.inputs.to(module.device))
            features.append(module(inputs).float())
            if with_raw:
                raw.append(average(inputs).float())
            labels.append(batch.label)
        for part, was_training in training.items():
            part.training = was_training
        rows = torch.cat(features)
        return rows, torch.cat(raw) if raw else rows[:, :0], torch.cat(labels).to(module.device)
