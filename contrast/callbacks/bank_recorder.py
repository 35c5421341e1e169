"""Record the state of a memory bank: age of keys, drift from fresh keys, and recall of approximate search."""

from __future__ import annotations

import copy
from typing import Any

import lightning
import torch
from jaxtyping import Int
from torch import Tensor

from contrast.banks import MemoryBank
from contrast.callbacks.metrics import record
from contrast.data import TrainingData
from contrast.distributed import gather_detached
from contrast.errors import InputError
from contrast.methods import ContrastiveMethod
from contrast.methods.base import BankQuery, KeySource, unit_rows
from contrast.observation.sums import draws
from contrast.randomness import Purpose, permutation
from contrast.records import append_row
from contrast.run_folder import RunFolder

__all__ = ["BankRecorder"]

_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_MOST = 1 << 18  # largest number of ages for quantiles
_ASKED = 64  # number of queries for which recall is measured


class BankRecorder(lightning.Callback):
    """Record age, freshness and recall of each memory bank in ``bank.jsonl``, and their means in ``metrics.jsonl``.

    - ``ages``, every few steps: quantiles of the number of steps since the keys offered to queries were written.
    - ``recall``, with the ages, while search is approximate: share of the exact neighbours that the search finds.
    - ``freshness``, every few epochs, for as many rows as a batch has: their age, and the cosine of the stored key and
      a fresh key. The fresh key is computed by the current encoder from the same view (same sample, epoch and view
      number).

    The encoder for fresh keys is a copy in training mode, and its batch consists of the examined rows. Batch norm
    therefore sees other samples than when the key was stored, so the cosine of a newly stored key is slightly below 1.

    Args:
        folder: the run folder.
        every_n_steps: steps between rows of ages; 0 never.
        every_n_epochs: epochs between rows of freshness; 0 never.

    Raises:
        InputError: where a number is negative.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int = 50, every_n_epochs: int = 5) -> None:
        if every_n_steps < 0 or every_n_epochs < 0:
            raise InputError(
                f"bank.every_n_steps {every_n_steps} and every_n_epochs {every_n_epochs} must be at least 0 (never)"
            )
        self.folder, self.every_n_steps, self.every_n_epochs = folder, every_n_steps, every_n_epochs
        self._step = 0
        self._seen: list[dict[str, Any]] = []

    @torch.no_grad()
    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        step = trainer.global_step + 1
        due = self.every_n_steps and (step % self.every_n_steps == 0 or step == 1)
        if due and not self._seen and isinstance(pl_module, ContrastiveMethod):
            self._step = step
            self._seen = [{"ages": _ages(each), "recall": _recall(each)} for each in pl_module.bank_queries]

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._seen or trainer.global_step < self._step:  # second condition: gradients still accumulate
            return
        seen, self._seen = self._seen, []
        for bank, row in enumerate(seen):
            found = {name: value for name, value in row.items() if value is not None}
            if found:
                self._append(trainer, bank, found)
        means = {"bank/age": ("ages", "mean"), "bank/recall": ("recall", "recall")}
        for name, (kind, key) in means.items():
            values = [row[kind][key] for row in seen if row[kind] is not None]
            if values:
                record(self.folder, trainer, {name: sum(values) / len(values)})

    @torch.no_grad()
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        done = trainer.current_epoch + 1
        due = self.every_n_epochs and (done % self.every_n_epochs == 0 or done == trainer.max_epochs)
        data = getattr(trainer, "datamodule", None)
        if not due or not isinstance(pl_module, ContrastiveMethod) or not isinstance(data, TrainingData):
            return
        means = []
        for number, bank in enumerate(pl_module.banks()):
            if not bank.filled_rows():
                continue
            row = _drawn(bank, data.batch_size * trainer.world_size, pl_module.global_step)
            index, written = bank.about(row)
            cosine = self._cosines(pl_module, data, number, row, index, written // trainer.num_training_batches)
            age = trainer.current_epoch * trainer.num_training_batches + trainer.num_training_batches - written
            freshness = {"age": age.tolist(), "cosine": [round(each, 6) for each in cosine.tolist()]}
            self._append(trainer, number, {"freshness": freshness})
            means.append(float(cosine.mean()))
        if means:
            record(self.folder, trainer, {"bank/fresh_cosine": sum(means) / len(means)})

    def _append(self, trainer: lightning.Trainer, bank: int, row: dict[str, Any]) -> None:
        if trainer.is_global_zero:
            place = {"step": trainer.global_step, "epoch": trainer.current_epoch, "bank": bank}
            append_row(self.folder.bank, place | row)

    def _cosines(
        self, method: ContrastiveMethod, data: TrainingData, number: int, row: Tensor, index: Tensor, epoch: Tensor
    ) -> Tensor:
        source = method.key_source(number)
        views = torch.cat(
            [data.views_of(index[epoch == each], each).inputs[source.view] for each in torch.unique(epoch).tolist()]
        )
        order = epoch.argsort(stable=True)
        fresh = _encoded(method, source, views.to(row.device))
        stored = method.banks()[number].keys_at(row[order][None])[0].to(fresh.dtype)
        cosine = torch.empty_like(fresh[:, 0])
        cosine[order] = torch.cosine_similarity(stored, fresh, dim=1)
        return cosine


def _drawn(bank: MemoryBank, count: int, step: int) -> Int[Tensor, " {count}"]:
    """Random rows of the bank, as many as the encoder's usual batch; rows repeat where the bank has fewer."""
    order = permutation(bank.filled_rows(), step, Purpose.OBSERVED_ROWS)
    return order[torch.arange(count) % len(order)].to(next(bank.buffers()).device)


def _encoded(method: ContrastiveMethod, source: KeySource, views: Tensor) -> Tensor:
    encoder = copy.deepcopy(source.encoder).train()  # a copy keeps the run's batch-norm statistics unchanged
    rows = unit_rows(encoder(views), method.loss)
    return rows if source.head is None else rows[source.head]


def _ages(query: BankQuery) -> dict[str, Any] | None:
    """Quantiles and mean of the ages over all processes; for quantiles, many ages are thinned out evenly."""
    by_kind = [age.flatten() for age in (query.offered.age, query.offered.own_age) if age is not None]
    ages = gather_detached(torch.cat(by_kind)) if by_kind else None
    if ages is None or not (ages >= 0).any():
        return None
    ages = ages[ages >= 0]
    part = ages[:: -(-len(ages) // _MOST)].double()
    shares = torch.tensor(_SHARES, dtype=torch.float64, device=part.device)
    quantiles = torch.quantile(part, shares, interpolation="nearest").long().tolist()
    return {"shares": list(_SHARES), "quantiles": quantiles, "mean": float(ages.double().mean())}


def _recall(bank_query: BankQuery) -> dict[str, Any] | None:
    neighbours = bank_query.bank.recall_at
    if not neighbours:
        return None
    # Every process uses the same gathered queries, so the number of processes does not change the result.
    query, index = gather_detached(bank_query.query), gather_detached(bank_query.index)
    draw = draws(index)
    asked = draw <= draw.kthvalue(min(_ASKED, len(draw))).values
    found = bank_query.bank.recall(query[asked], index[asked], neighbours)
    return None if found is None else {"neighbours": neighbours, "recall": found}
