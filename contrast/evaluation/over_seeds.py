"""The same evaluation for several seeds: which labels are seen, what is held out, and the course of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm import tqdm

from contrast.arguments import checked
from contrast.evaluation.auroc import AUROC, balanced_accuracy, macro_auroc
from contrast.evaluation.encoder import Encoder
from contrast.evaluation.features import Features
from contrast.evaluation.finetune import FineTuning, LabelledSet, finetune
from contrast.evaluation.labels import label_subset
from contrast.evaluation.probe import train_probe

__all__ = ["SeedResult", "finetune_over_seeds", "probe_over_seeds"]


@dataclass(frozen=True, eq=False)
class SeedResult:
    """One seed's evaluation.

    Args:
        seed: of the labels seen, the held-out part, and whatever training draws.
        top1: accuracy on the test set.
        balanced: mean over classes of the accuracy within a class.
        auroc: macro AUROC on the test set; None where no class has an area.
        train_samples: how many labels were seen.
        chosen: what the held-out part decided, and the accuracy there (None where nothing was held out).
        right: whether each test sample is classified correctly, on the CPU.
    """

    seed: int
    top1: float
    balanced: float
    auroc: AUROC | None
    train_samples: int
    chosen: dict[str, Any]
    right: Bool[Tensor, " n"]


@checked
def probe_over_seeds(
    train: Features,
    test: Features,
    classes: int,
    seeds: Sequence[int],
    *,
    fraction: float | None = None,
    per_class: int | None = None,
    progress: str | None = None,
) -> list[SeedResult]:
    """A linear probe a seed, each on its own subset of the labels; arguments and errors of its two steps.

    Args:
        train: features of the training set.
        test: features of the test set, on the same device; met only when a probe is finished.
        classes: how many classes there are.
        seeds: one evaluation each.
        fraction: of the labels, for `label_subset`.
        per_class: or labels a class.
        progress: what the bar on stderr says; None shows none.
    """
    results = []
    for seed in tqdm(seeds, desc=progress, disable=progress is None, leave=False):
        seen = label_subset(train.labels.cpu(), seed, fraction=fraction, per_class=per_class).to(train.labels.device)
        probe = train_probe(train.features[seen], train.labels[seen], classes, seed)
        chosen = {"l2": probe.strength, "held_out_accuracy": probe.held_out_accuracy}
        results.append(_result(seed, probe.logits(test.features), test.labels, len(seen), chosen))
    return results


@checked
def finetune_over_seeds(
    encoder: Encoder,
    train: LabelledSet,
    test: LabelledSet,
    classes: int,
    seeds: Sequence[int],
    settings: FineTuning,
    device: torch.device,
    *,
    fraction: float | None = None,
    per_class: int | None = None,
    progress: str | None = None,
) -> list[SeedResult]:
    """The encoder fine-tuned once a seed, each on its own subset of the labels; arguments as in `probe_over_seeds`.

    Args:
        encoder: where each training starts.
        train: the training set.
        test: the test set; met only when a training has ended.
        classes: how many classes there are.
        seeds: one evaluation each.
        settings: how to train.
        device: where to train.
        fraction: of the labels, for `label_subset`.
        per_class: or labels a class.
        progress: what the bar on stderr says; None shows none.
    """
    results = []
    for seed in seeds:
        seen = label_subset(train.labels, seed, fraction=fraction, per_class=per_class)
        name = None if progress is None else f"{progress}, seed {seed}"
        tuned = finetune(encoder, train[seen], classes, settings, seed, device, name)
        chosen = {"rate": tuned.rate, "held_out_accuracy": tuned.held_out_accuracy}
        results.append(_result(seed, tuned.logits(test), test.labels, len(seen), chosen))
    return results


def _result(seed: int, logits: Tensor, labels: Tensor, train_samples: int, chosen: dict[str, Any]) -> SeedResult:
    right = logits.argmax(dim=1) == labels
    top1, balanced = float(right.double().mean()), balanced_accuracy(right, labels)
    return SeedResult(seed, top1, balanced, macro_auroc(logits, labels), train_samples, chosen, right.cpu())
