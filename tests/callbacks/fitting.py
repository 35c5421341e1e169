"""A run of a few steps around the callbacks under test."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

from contrast.banks import KeyQueue
from contrast.data import Digits, ImageData, SimCLRViews
from contrast.losses import Loss
from contrast.methods import ContrastiveMethod, MoCo, SimCLR
from contrast.models import ConvNet, LinearHead
from contrast.optim import WarmupCosine
from contrast.pairs import Pairs

BATCH, SAMPLES = 32, 96


def simclr(loss: Loss | None = None) -> SimCLR:
    torch.manual_seed(0)
    head, optimizer = partial(LinearHead, output_width=6), partial(torch.optim.SGD, lr=0.5)
    return SimCLR(
        ConvNet((4, 8), channels=1), head, loss, optimizer, WarmupCosine(warmup_epochs=1), rate_scaling="none"
    )


def moco(loss: Loss | None = None, size: int = 80) -> MoCo:
    torch.manual_seed(0)
    head, bank = partial(LinearHead, output_width=6), partial(KeyQueue, size=size)
    return MoCo(ConvNet((4, 8), channels=1), head, loss, bank, momentum=0.9, symmetric=True)


def digits(test: bool = True) -> ImageData:
    views = SimCLRViews(size=8, blur=0.0)
    held_out = Digits(train=False) if test else None
    return ImageData(Digits(), views, held_out, BATCH, workers=0, channels=1, mean=(0.5,), std=(0.25,), limit=SAMPLES)


def fit(
    folder: Path,
    method: ContrastiveMethod,
    callbacks: Sequence[lightning.Callback],
    data: ImageData | None = None,
    resume: Path | None = None,
    **settings: Any,
) -> lightning.Trainer:
    """Two epochs of three steps with these callbacks, and no others."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    trainer = lightning.Trainer(
        callbacks=list(callbacks),
        default_root_dir=folder,
        accelerator="cpu",
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, "logger": False, **settings},
    )
    trainer.fit(method, datamodule=data or digits(), ckpt_path=resume, weights_only=True)
    return trainer


class Steps(lightning.Callback):
    """What every step really was: put before the callbacks under test.

    Attributes:
        pairs: copies of the pairs that the loss saw, made before backward and before a bank was written.
        losses: the loss.
        rates: the learning rate that the step used.
    """

    def __init__(self) -> None:
        self.pairs: list[tuple[Pairs, ...]] = []
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.loss.register_forward_hook(
            lambda module, inputs, output: self.pairs.append(copy.deepcopy(output.pairs))
        )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["output"].loss.item())
