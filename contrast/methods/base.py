"""Base class of self-supervised methods, with the optimiser, banks and momentum that they share."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import lightning
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.banks import KeyStore, MemoryBank, Negatives
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import Loss, LossOutput
from contrast.models import Backbone, Head, require_fitting
from contrast.optim import GroupRate, Schedule, parameter_groups, scaled_rate
from contrast.pairs import Pairs
from contrast.runs.length import MayStartLate, RunLength

__all__ = [
    "BankFactory",
    "BankQuery",
    "ContrastiveMethod",
    "HeadFactory",
    "KeySource",
    "OptimizerFactory",
    "RateScaling",
    "Rates",
    "build_predictor",
    "check_momentum",
    "require_a_rate",
    "rising_momentum",
]


def rising_momentum(start: float, progress: float) -> float:
    """Cosine schedule of the target's momentum, from m₀ at the start of the run to 1 at its end.

    ``m = 1 - (1 - m₀) ½ (1 + cos π p)``; at m = 1 the target no longer moves

    Args:
        start: m₀, within [0, 1].
        progress: p, the share of the run that is done, within [0, 1].

    Source: BYOL, Grill et al., NeurIPS 2020, arXiv 2006.07733, section 3.3; MoCo v3 does the same.

    Example:
        >>> [round(rising_momentum(0.99, progress), 4) for progress in (0, 0.5, 1)]
        [0.99, 0.995, 1.0]
    """
    return 1 - (1 - start) * 0.5 * (1 + math.cos(math.pi * progress))


def check_momentum(owner: str, momentum: float) -> float:
    """Return `momentum` if it is within [0, 1].

    Raises:
        InputError: if `momentum` is outside [0, 1].
    """
    if not 0 <= momentum <= 1:
        raise InputError(f"{owner}'s momentum {momentum:g} is outside [0, 1]: it is the share that the target keeps")
    return momentum


HeadFactory = Callable[[int], Head]
"""Makes a projection head from the backbone's width; in a configuration, a head class without its first argument."""
BankFactory = Callable[[int], MemoryBank]
"""Makes a memory bank from the embeddings' width; in a configuration, a bank class without its first argument."""
OptimizerFactory = Callable[[Iterable[Any]], torch.optim.Optimizer]
"""Makes an optimiser from parameter groups; in a configuration, any torch optimiser class without its parameters."""
RateScaling = Literal["linear", "sqrt", "none"]
Rates = Mapping[str, GroupRate]
"""Learning rates, relative to the optimiser's rate, by the name of a group (`contrast.optim.parameter_groups`)."""


class BankQuery(NamedTuple):
    """A memory bank with the queries of a step and the negatives that it returned for them.

    Attributes:
        bank: the memory bank.
        query: the queries, (b, d).
        index: the training sample of each query, (b,).
        offered: the negatives that the bank returned.
    """

    bank: MemoryBank
    query: Float[Tensor, "b d"]
    index: Int[Tensor, " b"]  # type: ignore[assignment]  # shadows tuple.index, which nobody calls here
    offered: Negatives


class KeySource(NamedTuple):
    """How the keys of a memory bank are made.

    Attributes:
        encoder: module from images to embeddings.
        view: number of the view that is encoded.
        head: number of the head whose embeddings are the keys. None if there is only one head.
    """

    encoder: nn.Module
    view: int
    head: int | None


class ContrastiveMethod(lightning.LightningModule, ABC):
    """Base class of self-supervised pretraining methods; a subclass defines in `pairs` how a batch becomes pairs.

    Args:
        backbone: from images to features; kept after pretraining.
        head: the projection head, from features to embeddings; dropped after pretraining.
        loss: from pairs to the scalar to minimise.
        optimizer: the optimiser with all arguments except the parameters. Norms and biases get no weight decay.
        schedule: the learning-rate schedule over the run.
        rate_scaling: how the learning rate grows with the global batch size over `rate_reference`: linear, sqrt or
            none.
        rate_reference: the batch size that the learning rate is meant for.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.

    Attributes:
        one_direction: whether the method accepts losses that take one direction only.
        seen: output of the loss in this step; None after backward. Observers must read the negatives before that, in
            `on_before_backward`: the pairs hold the bank's own rows, which the step's keys overwrite afterwards.
        bank_queries: memory banks queried in this step, with queries, sample indices and returned negatives; cleared
            after backward.

    Raises:
        InputError: if the loss takes one direction and the method has two.
    """

    one_direction: ClassVar[bool] = False

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        loss: Loss,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        rate_scaling: RateScaling,
        rate_reference: int,
        rates: Rates | None = None,
    ) -> None:
        super().__init__()
        if not loss.both_directions and not self.one_direction:
            raise InputError(
                f"{type(self).__name__} cannot host {type(loss).__name__}, which takes one direction: "
                "use --model TwoView"
            )
        self.backbone, self.head, self.loss = backbone, head, loss
        self._optimizer, self._schedule = optimizer, schedule
        self._rate_scaling, self._rate_reference = rate_scaling, rate_reference
        self._rates = dict(rates or {})
        self._unstored: list[tuple[MemoryBank, Tensor, Tensor]] = []
        self.seen: LossOutput | None = None
        self.bank_queries: list[BankQuery] = []
        self._begun = -1
        self._total_steps = 0

    @abstractmethod
    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        """Pairs of one batch of views: the only part that every method must define."""

    def banks(self) -> Sequence[MemoryBank]:
        """The memory banks of this method."""
        return [module for module in self.modules() if isinstance(module, MemoryBank)]

    def forward(self, images: Float[Tensor, "b *shape"]) -> Float[Tensor, "b d"]:
        """Features of the backbone, without the head, for probes, kNN and export."""
        features: Tensor = self.backbone(images)
        return features

    def embed(self, images: Float[Tensor, "b *shape"]) -> Float[Tensor, "*h b d"]:
        """Embeddings of the head, in at least float32; unit rows if the loss asks for them."""
        return unit_rows(self.head(self.backbone(images)), self.loss)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        # Not in on_train_epoch_start: Lightning skips that hook if a run resumes in the middle of an epoch.
        if self._begun != self.current_epoch:
            self.loss.begin_epoch(self.current_epoch)
            self._begun = self.current_epoch
        self.loss.begin_step(self.current_epoch, self.global_step)
        output = self.loss(*self.pairs(batch))
        self.seen = dataclasses.replace(output, loss=output.loss.detach())
        return {"loss": output.loss, "output": self.seen}

    def meet(self, bank: MemoryBank, query: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> Negatives:
        """Query a memory bank for negatives, and keep the result for observers until the step is over."""
        offered = bank.negatives(query, index)
        self.bank_queries.append(BankQuery(bank, query, index, offered))
        return offered

    def key_source(self, bank: int) -> KeySource:
        """How the keys of a memory bank are made, given the bank's number.

        By default, the keys are first views, encoded by the trained encoder.
        """
        return KeySource(nn.Sequential(self.backbone, self.head), view=0, head=self._head_of(bank))

    def _head_of(self, bank: int) -> int | None:
        return None if self.head.head_count is None else bank % self.head.head_count

    def remember(self, bank: MemoryBank, keys: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        """Store keys in a memory bank after backward, when its buffers are no longer needed."""
        self._unstored.append((bank, keys.detach(), index))

    def on_after_backward(self) -> None:
        # Not at the end of the batch: checkpoints are written there first, and would lack this step's keys.
        self.seen = None
        self.bank_queries.clear()
        for bank, keys, index in self._unstored:
            bank.store(keys, index)
        self._unstored.clear()

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.trained(), self._rates)
        try:
            optimizer = self._optimizer(groups)
        except (ValueError, TypeError, RuntimeError) as error:  # errors of torch's optimisers about their arguments
            raise InputError(f"model.optimizer: {error}") from error
        batch_size = self._global_batch_size()
        for group in optimizer.param_groups:
            rate = scaled_rate(group["lr"], batch_size, self._rate_scaling, self._rate_reference)
            group["lr"] = rate * group.get("rate_factor", 1.0)
        total, per_epoch = self._steps()
        self._total_steps = total

        def scheduled(step: int) -> float:
            return self._schedule.factor(step, total, per_epoch)

        courses = [scheduled if group.get("scheduled", True) else lambda step: 1.0 for group in optimizer.param_groups]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, courses)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def trained(self) -> nn.Module:
        """Modules that the optimiser trains: all that need a gradient, hence no banks and no momentum encoder."""
        asking = {name: child for name, child in self.named_children() if _asks_for_gradient(child)}
        return nn.ModuleDict(asking)

    def describe_rates(self) -> str:
        """Parameter groups whose rate differs from the optimiser's, in one line; empty if there are none."""
        return ", ".join(
            f"{name} at {rate.factor:g} times the optimiser's{'' if rate.scheduled else ', constant'}"
            for name, rate in self._rates.items()
            if rate != GroupRate()
        )

    @property
    def planned_steps(self) -> int:
        """Number of optimiser steps of the whole run; 0 outside a run."""
        return self._total_steps

    def run_length(self) -> RunLength:
        """Length of the current training run; valid only inside a run."""
        steps, per_epoch = self._steps()
        return RunLength(steps, per_epoch, self._global_batch_size())

    def pieces_that_may_start_late(self) -> list[MayStartLate]:
        """All parts of the loss, the banks and the schedule that may start late in a run."""
        return [each for each in (*self.modules(), self._schedule) if isinstance(each, MayStartLate)]

    def progress(self) -> float:
        """Share of the run's optimiser steps that are done, within [0, 1]; 0 outside a run."""
        return min(1.0, self.global_step / self._total_steps) if self._total_steps else 0.0

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        shape = getattr(data, "input_shape", None)
        if shape is not None:
            require_fitting(self.backbone, shape)
        samples = getattr(data, "train_samples", None)
        if stage == "fit":
            for bank in self.banks():
                bank.begin(samples)
            # The attribute's name is torch's. Without it, DistributedDataParallel would overwrite each process's part
            # of the keys with the part of the first process.
            stores = ((name, module) for name, module in self.named_modules() if isinstance(module, KeyStore))
            self._ddp_params_and_buffers_to_ignore = [f"{name}.keys" for name, store in stores if store.parts > 1]

    def _global_batch_size(self) -> int:
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise InputError("rate scaling needs the batch size: train with a data module that has `batch_size`")
        return int(data.batch_size) * self.trainer.world_size * self.trainer.accumulate_grad_batches

    def _steps(self) -> tuple[int, int]:
        """Number of optimiser steps of the whole run, and of one epoch.

        Lightning's `estimated_stepping_batches` cannot be used: it sets up the loaders before a checkpoint is restored.
        Lightning then no longer restores the loaders' state, and a run that resumes in the middle of an epoch repeats
        it.
        """
        trainer = self.trainer
        batches = trainer.datamodule.batches_per_epoch  # type: ignore[attr-defined]  # Lightning does not type it
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * (limit or 1.0))
        per_epoch = max(1, -(-batches // trainer.accumulate_grad_batches))
        ends = [trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            ends.append(trainer.max_epochs * per_epoch)
        if not ends:
            raise InputError("the schedule needs an end: set trainer.max_epochs or trainer.max_steps above 0")
        return min(ends), per_epoch


def require_a_rate(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimiser whose learning rates are all 0: it trains nothing.

    Args:
        optimizer: as `ContrastiveMethod.configure_optimizers` returns it, with its schedule.

    Raises:
        InputError: if the rate or every factor of ``rates`` is 0.
    """
    used = [group for group in optimizer.param_groups if group["params"]]
    if any(float(group.get("initial_lr", group["lr"])) != 0 for group in used):  # a warm-up may start at 0
        return
    if all(group.get("rate_factor", 1.0) == 0 for group in used):
        raise InputError("model.rates: every factor is 0, which trains nothing: give one of them a number above 0")
    raise InputError("model.optimizer: a learning rate (lr) of 0 trains nothing: give a number above 0")


def _asks_for_gradient(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def unit_rows(embeddings: Tensor, loss: Loss) -> Tensor:
    """Embeddings as the loss needs them: in at least float32, and of unit length if the loss asks for unit rows."""
    wide = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    return nn.functional.normalize(wide, dim=-1) if loss.unit_embeddings else wide


def build_predictor(owner: str, head: Head, factory: HeadFactory, several: bool = False) -> Head:
    """Build a predictor: a head from embeddings to embeddings of the same width.

    Args:
        owner: name of the method, for error messages.
        head: the projection head whose output the predictor takes.
        factory: makes the predictor from the width of that output.
        several: whether the predictor may have several heads. The projection head never may.

    Raises:
        InputError: for several heads where only one is allowed; for a predictor of another width.
    """
    if head.head_count is not None:
        raise InputError(f"{owner} takes one projection head, not a MultiHead: use --model SimCLR or MoCo for several")
    predictor = factory(head.output_width)
    if predictor.head_count is not None and not several:
        raise InputError(f"{owner} takes one predictor, not a MultiHead: SimSiam's may have several heads")
    if predictor.output_width != head.output_width:
        raise InputError(
            f"{owner}'s predictor has output_width {predictor.output_width} and its head {head.output_width}, but "
            "the loss compares them: make them equal"
        )
    return predictor
