"""Record statistics of positives and negatives during training, from the same pairs that the loss used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from contrast.callbacks.loggers import log_histogram
from contrast.callbacks.metrics import record
from contrast.data import TrainingData
from contrast.errors import InputError, RunStopped
from contrast.losses import Loss, LossOutput
from contrast.methods import ContrastiveMethod
from contrast.observation import (
    HEADER,
    ListedObserver,
    Observation,
    Observer,
    RawRows,
    checked_observers,
    histograms,
    observe,
)
from contrast.records import append_row
from contrast.run_folder import RunFolder
from contrast.runs.next_command import how_to_go_on

__all__ = ["ForwardHooks", "Recorder"]

_ROWS = 100  # rows per run by default


class Recorder(lightning.Callback):
    """Record pair statistics: a row of ``scores.jsonl`` every few steps, from `contrast.observation.observe`.

    Some numbers are also written to ``metrics.jsonl`` and the loggers; histograms are sent to loggers that support
    them. Labels, where the data have them, are used for statistics only and reach no loss. A step that is not observed
    has no extra cost.

    If a listed observer fails, the row of the step is written without it, the step is saved, and the run stops.

    Args:
        folder: the run folder.
        every_n_steps: steps between rows. 0 records nothing; None records about 100 rows per run.
        queries: number of queries, over all processes, whose negatives are examined; None for all. The choice depends
            only on the queries' samples. Positives of all queries are examined.
        observers: further observers, whose rows are recorded under their own names.

    Raises:
        InputError: where a number is negative, or `queries` is 0, or an observer's name cannot be used; and at the end
            of a run that a listed observer stopped.
    """

    def __init__(
        self,
        folder: RunFolder,
        every_n_steps: int | None = None,
        queries: int | None = 48,
        observers: Sequence[Observer] = (),
    ) -> None:
        if every_n_steps is not None and every_n_steps < 0:
            raise InputError(f"scores.every_n_steps {every_n_steps} is negative; 0 records nothing")
        if queries is not None and queries < 1:
            raise InputError(f"scores.queries {queries} selects no query: give at least 1, or null for all")
        self.folder, self.every_n_steps, self.queries = folder, every_n_steps, queries
        self.observers = checked_observers(observers)
        self._step = 0
        self._seen: Observation | None = None
        self._listed: list[ListedObserver] = []
        self._failure = ""  # of a listed observer
        self._labels: Tensor | None = None
        self._network: ForwardHooks | None = None

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
            self._network = ForwardHooks(pl_module.backbone, pl_module.head)

    @torch.no_grad()
    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Compute the statistics before backward: afterwards a bank holds the next step's rows."""
        watch, self._network = self._network, None
        if watch is None:
            return
        output, loss_of = pl_module.seen, pl_module.loss
        if isinstance(output, LossOutput) and isinstance(loss_of, Loss):
            self._step = trainer.global_step + 1
            index = output.pairs[0].index
            self._listed = [ListedObserver(each) for each in self.observers]
            self._seen = observe(loss_of, output, self._labels, watch.rows(index), self.queries, self._listed)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._seen is None or trainer.global_step < self._step:  # second condition: gradients still accumulate
            return
        seen, self._seen = self._seen, None
        row = seen.row()
        scalars = seen.scalars(row)
        listed = {each.name: each.row() for each in self._listed}
        for each in self._listed:
            scalars |= each.scalars(listed[each.name])
            self._failure = self._failure or each.failure
        self._listed = []
        listed = {name: part for name, part in listed.items() if part}
        if trainer.is_global_zero:
            append_row(self.folder.scores, {"step": self._step, "epoch": trainer.current_epoch, **row, **listed})
            for name, part in row.items():
                if "counts" in part:
                    edges: Any = HEADER["coupling_edges" if name == "coupling" else "edges"]
                    log_histogram(trainer.loggers, f"scores/{name}", part["counts"], self._step, edges)
            for path, part in histograms(listed):
                log_histogram(trainer.loggers, "/".join(path), part["counts"], self._step, part["edges"])
        record(self.folder, trainer, scalars)
        if self._failure:
            trainer.should_stop = True  # the epoch ends here, and a checkpoint is written

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not self._failure:
            return
        failure = f"{self._failure}; step {trainer.global_step} is recorded without it; {how_to_go_on(self.folder)}"
        # All processes have the same failure, and only the first one reports it.
        raise InputError(failure) if trainer.is_global_zero else RunStopped(failure, exit_code=0)

    def _observed(self, step: int) -> bool:
        every = self.every_n_steps or 0
        return every > 0 and (step == 1 or step % every == 0)


class ForwardHooks:
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
