"""Record statistics of positives and negatives during training, from the same pairs that the loss used."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from contrast.callbacks.loggers import log_histogram
from contrast.callbacks.metrics import record
from contrast.data import TrainingData
from contrast.errors import InputError
from contrast.losses import Loss, LossOutput
from contrast.methods import ContrastiveMethod
from contrast.observation import HEADER, Observation, RawRows, observe
from contrast.records import append_row
from contrast.run_folder import RunFolder

__all__ = ["Recorder", "Watch"]

_ROWS = 100  # rows per run by default
_MIRRORED = {
    "scores/auc": ("separation", "auc"),
    "scores/d_prime": ("separation", "d_prime"),
    "scores/overlap": ("separation", "overlap"),
    "gradient/effective": ("gradient", "effective", "mean"),
    "gradient/same_class": ("gradient", "same_class"),
    "gradient/synthetic": ("gradient", "synthetic"),
    "false_negatives/denominator": ("false_negatives", "denominator"),
    "coupling/mean": ("coupling", "mean"),
    "embedding/alignment": ("embedding", "alignment"),
    "embedding/uniformity": ("embedding", "uniformity"),
    "embedding/rank_me": ("embedding", "rank_me"),
    "features/rank_me": ("features", "rank_me"),
}
"""Numbers of a row that are also logged as scalars."""


class Recorder(lightning.Callback):
    """Record pair statistics: a row of ``scores.jsonl`` every few steps, from `contrast.observation.observe`.

    Some numbers are also written to ``metrics.jsonl`` and the loggers; histograms are sent to loggers that support
    them. Labels, where the data have them, are used for statistics only and reach no loss. A step that is not observed
    has no extra cost.

    Args:
        folder: the run folder.
        every_n_steps: steps between rows. 0 records nothing; None records about 100 rows per run.
        queries: number of queries, over all processes, whose negatives are examined; None for all. The choice depends
            only on the queries' samples. Positives of all queries are examined.

    Raises:
        InputError: where a number is negative, or `queries` is 0.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int | None = None, queries: int | None = 48) -> None:
        if every_n_steps is not None and every_n_steps < 0:
            raise InputError(f"scores.every_n_steps {every_n_steps} is negative; 0 records nothing")
        if queries is not None and queries < 1:
            raise InputError(f"scores.queries {queries} leaves nothing to look at: give at least 1, or null for all")
        self.folder, self.every_n_steps, self.queries = folder, every_n_steps, queries
        self._step = 0
        self._seen: Observation | None = None
        self._labels: Tensor | None = None
        self._watch: Watch | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.every_n_steps is None and isinstance(pl_module, ContrastiveMethod):
            self.every_n_steps = max(1, pl_module.planned_steps // _ROWS)
        data = getattr(trainer, "datamodule", None)
        if self.every_n_steps and isinstance(data, TrainingData) and data.train_labels is not None:
            self._labels = data.consecutive(data.train_labels).to(pl_module.device)
        if trainer.is_global_zero and self.every_n_steps and not self.folder.scores.exists():
            append_row(self.folder.scores, HEADER)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # With gradient accumulation, only the first batch of a step is observed.
        due = self._seen is None and self._observed(trainer.global_step + 1)
        if due and isinstance(pl_module, ContrastiveMethod):
            self._watch = Watch(pl_module.backbone, pl_module.head)

    @torch.no_grad()
    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Compute the statistics before backward: afterwards a bank holds the next step's rows."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        output, loss_of = pl_module.seen, pl_module.loss
        if isinstance(output, LossOutput) and isinstance(loss_of, Loss):
            self._step = trainer.global_step + 1
            index = output.pairs[0].index
            self._seen = observe(loss_of, output, self._labels, watch.rows(index), self.queries)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._seen is None or trainer.global_step < self._step:  # second condition: gradients still accumulate
            return
        seen, self._seen = self._seen, None
        row, scalars = seen.row(), seen.scalars()
        if trainer.is_global_zero:
            append_row(self.folder.scores, {"step": self._step, "epoch": trainer.current_epoch, **row})
            for name, part in row.items():
                if "counts" in part:
                    low = 0.0 if name == "coupling" else -1.0  # coupling is a share, scores are cosines
                    log_histogram(trainer.loggers, f"scores/{name}", part["counts"], self._step, low)
        scalars |= {name: value for name, path in _MIRRORED.items() if (value := _at(row, path)) is not None}
        for head, sides in enumerate(row.get("temperature", {}).get("heads", [])):
            scalars |= {f"temperature/head{head}/{side}": of["mean"] for side, of in sides.items() if of}
        record(self.folder, trainer, scalars)

    def _observed(self, step: int) -> bool:
        every = self.every_n_steps or 0
        return every > 0 and (step == 1 or step % every == 0)


class Watch:
    """Record the outputs of a backbone and a projection head by forward hooks, until `rows` is called.

    Args:
        backbone: module whose features are recorded.
        head: module whose embeddings are recorded.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        self._features: list[Tensor] = []
        self._embeddings: list[Tensor] = []
        self._hooks: list[RemovableHandle] = [
            backbone.register_forward_hook(lambda module, inputs, output: self._features.append(output.detach())),
            head.register_forward_hook(lambda module, inputs, output: self._embeddings.append(output.detach())),
        ]

    def rows(self, index: Tensor) -> RawRows | None:
        """Remove the hooks and return all recorded outputs; None where the hooks recorded nothing that fits.

        Args:
            index: sample of each row in the order of the forward calls; the calls may repeat it several times.
        """
        for hook in self._hooks:
            hook.remove()
        if not self._features or not self._embeddings:
            return None
        features, embeddings = torch.cat(self._features), torch.cat(self._embeddings, dim=-2)
        if len(features) != embeddings.shape[-2] or len(index) == 0 or len(features) % len(index):
            return None
        return RawRows(features, embeddings, index.repeat(len(features) // len(index)))


def _at(row: dict[str, Any], path: tuple[str, ...]) -> float | None:
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, float) else None
