"""Evaluation protocols over seeds: kNN, linear probe and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm import tqdm

from contrast.checks import checked
from contrast.data import TrainingData
from contrast.data.training_data import Split
from contrast.errors import InputError
from contrast.evaluation.encoder import Encoder
from contrast.evaluation.features import Features, features_of
from contrast.evaluation.finetune import FineTuning, LabelledSet, finetune, load_set
from contrast.evaluation.knn import check_knn, weighted_knn_scores
from contrast.evaluation.labels import label_subset
from contrast.evaluation.probe import FALLBACK, GRID, train_probe
from contrast.evaluation.results import Result, accuracy_interval
from contrast.evaluation.statistics import AUROC, auroc_interval, balanced_accuracy, macro_auroc
from contrast.runtime import made_with

__all__ = [
    "SeedResult",
    "evaluate_finetuning",
    "evaluate_knn",
    "evaluate_probe",
    "finetune_over_seeds",
    "positions_of",
    "probe_over_seeds",
]


@dataclass(frozen=True, eq=False)
class SeedResult:
    """Evaluation result of one seed.

    Attributes:
        seed: seed of the label subset, the held-out split and all random draws of training.
        top1: top-1 accuracy on the test set.
        balanced: balanced accuracy: mean over classes of the accuracy within a class.
        auroc: macro AUROC on the test set; None where no class has an AUROC.
        train_samples: number of labels that were used.
        chosen: the hyperparameter chosen on the held-out split, and the accuracy there; None where no samples were held
            out.
        right: whether each test sample is classified correctly, (n,), on the CPU.
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
    """Train one linear probe per seed, each on its own subset of the labels, and test it.

    Args:
        train: features of the training set.
        test: features of the test set, on the same device; used only after a probe is trained.
        classes: number of classes.
        seeds: one evaluation per seed.
        fraction: share of the labels, for `label_subset`.
        per_class: number of labels per class, for `label_subset`. Give either this or `fraction`.
        progress: label of the progress bar on stderr; None shows no bar.

    Raises:
        InputError: as `label_subset` and `train_probe`.
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
    """Fine-tune the encoder once per seed, each time on its own subset of the labels, and test it.

    Args:
        encoder: encoder from which each training starts.
        train: the training set.
        test: the test set; used only after a training has ended.
        classes: number of classes.
        seeds: one evaluation per seed.
        settings: settings of the training.
        device: device on which to train.
        fraction: share of the labels, for `label_subset`.
        per_class: number of labels per class, for `label_subset`. Give either this or `fraction`.
        progress: label of the progress bar on stderr; None shows no bar.

    Raises:
        InputError: as `label_subset` and `finetune`.
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


Told = Mapping[str, Any]
"""Entries that a result states about its encoder, besides the encoder's own description: run and checkpoint."""


@checked
def evaluate_probe(
    encoder: Encoder,
    data: TrainingData,
    cache: str | Path,
    device: torch.device,
    seeds: Sequence[int],
    *,
    fraction: float | None = None,
    per_class: int | None = None,
    told: Told | None = None,
    most: tuple[int, int] | None = None,
) -> Result:
    """Linear evaluation protocol: linear probes on frozen features, one per seed.

    Args:
        encoder: encoder to evaluate.
        data: train set to learn from and test set to report on.
        cache: folder of cached features.
        device: device on which everything runs.
        seeds: one probe per seed.
        fraction: share of the train labels that a probe sees.
        per_class: number of train labels per class that a probe sees. Give either this or `fraction`.
        told: entries to add to the encoder's description in the result.
        most: largest number of train samples and of test samples to use, as subsets with the same share of every class.
            None uses all. The number of labels stays as requested, unless the train subset has fewer.

    Raises:
        InputError: where the data lack labels or a test set, or the number of labels is out of range.
    """
    classes = _classes(data, fraction, per_class)
    train, test = _sets(encoder, data, cache, device, most)
    fraction, per_class = _amount(data, train, fraction, per_class)
    amount = {"fraction": fraction, "per_class": per_class}
    results = probe_over_seeds(
        train, test, classes, seeds, fraction=fraction, per_class=per_class, progress="linear probes"
    )
    grid = ", ".join(f"{strength:g}" for strength in GRID)
    protocol = {
        "features": "backbone output, frozen, standardised by mean and deviation of the labelled train samples",
        "classifier": "multinomial logistic regression with an L2 penalty, full-batch L-BFGS",
        "selection": _selection(f"L2 strength from {grid}", f"L2 strength {FALLBACK:g}", results),
    }
    return _over_seeds("probe", encoder, data, results, amount, protocol, fraction != 1, device, told)


@checked
def evaluate_finetuning(
    encoder: Encoder,
    data: TrainingData,
    device: torch.device,
    seeds: Sequence[int],
    settings: FineTuning,
    *,
    fraction: float | None = None,
    per_class: int | None = None,
    told: Told | None = None,
) -> Result:
    """Fine-tuning protocol: train the encoder and a linear head end to end, once per seed.

    Args:
        encoder: encoder from which each training starts.
        data: train set to learn from and test set to report on; both are held in memory.
        device: device on which everything runs.
        seeds: one training per seed.
        settings: settings of the training.
        fraction: share of the train labels that a training sees.
        per_class: number of train labels per class that a training sees. Give either this or `fraction`.
        told: entries to add to the encoder's description in the result.

    Raises:
        InputError: as `evaluate_probe`.
    """
    classes = _classes(data, fraction, per_class)
    train = load_set(data.evaluation_loader("train"), f"{data.samples_name} of train")
    test = load_set(data.evaluation_loader("test"), f"{data.samples_name} of test")
    train, test = (replace(each, labels=data.consecutive(each.labels)) for each in (train, test))
    amount = {"fraction": fraction, "per_class": per_class}
    results = finetune_over_seeds(
        encoder, train, test, classes, seeds, settings, device,
        fraction=fraction, per_class=per_class, progress="fine-tuning",
    )  # fmt: skip
    rates = ", ".join(f"{rate:g}" for rate in settings.rates)
    protocol = {
        "features": "backbone output, trained further",
        "classifier": "linear, from zero, trained with the backbone: SGD with Nesterov momentum, cosine, last epoch",
        "selection": _selection(f"learning rate from {rates}", f"learning rate {settings.rates[0]:g}", results),
        "fine_tuning": asdict(settings),
        "train_transform": settings.transform,
    }
    return _over_seeds("finetune", encoder, data, results, amount, protocol, True, device, told)


@checked
def evaluate_knn(
    encoder: Encoder,
    data: TrainingData,
    cache: str | Path,
    device: torch.device,
    neighbours: int = 200,
    temperature: float = 0.1,
    *,
    told: Told | None = None,
    most: tuple[int, int] | None = None,
) -> Result:
    """kNN protocol: weighted cosine kNN on frozen features.

    Args:
        encoder: encoder to evaluate.
        data: train set to search and test set to report on.
        cache: folder of cached features.
        device: device on which everything runs.
        neighbours: k.
        temperature: t in the weight exp(s / t).
        told: entries to add to the encoder's description in the result.
        most: largest number of train samples and of test samples to use, as subsets with the same share of every class.
            None uses all.

    Raises:
        InputError: as `evaluate_probe` and `knn_top1`.
    """
    classes = data.classes
    check_knn(neighbours, temperature, data.train_samples)  # fail early: features may take an hour
    train, test = _sets(encoder, data, cache, device, most)
    scores = weighted_knn_scores(test.features, train.features, train.labels, classes, neighbours, temperature)
    right = scores.argmax(dim=1) == test.labels
    top1 = float(right.double().mean())
    interval, over = accuracy_interval([top1], len(test.labels), seeds_differ=False)
    protocol = {
        **_of_data(data, len(test.labels)),
        "train_samples": len(train.labels),
        "features": "backbone output, frozen, unit length",
        "classifier": "weighted kNN: cosine, weight exp(s / t), class sums",
        "neighbours": neighbours,
        "temperature": temperature,
        "selection": "none: neighbours and temperature as given",
        "seeds": [],
        "interval": over,
    }
    return Result(
        command="knn",
        label=f"k-{neighbours}",
        fingerprint=encoder.fingerprint,
        encoder={**(told or {}), **encoder.description},
        per_seed=[{"seed": None, "top1": top1, "balanced_accuracy": balanced_accuracy(right, test.labels)}],
        chosen=[],
        interval=interval,
        protocol=protocol,
        made_with=made_with(device),
        right=[right.cpu()],
    )


def positions_of(data: TrainingData, split: Split, most: int) -> Int[Tensor, " m"] | None:
    """Positions of a stratified subset of about `most` samples; None where the set has at most that many.

    Args:
        data: the data module.
        split: which of its sets.
        most: number of samples; each class keeps at least one.
    """
    labels = data.train_labels if split == "train" else data.test_labels
    return None if labels is None or len(labels) <= most else label_subset(labels, 0, fraction=most / len(labels))


def _sets(
    encoder: Encoder, data: TrainingData, cache: str | Path, device: torch.device, most: tuple[int, int] | None
) -> tuple[Features, Features]:
    """Features of the train set and the test set, on the device."""
    splits: tuple[Split, Split] = ("train", "test")
    if data.test_set is None:
        raise InputError("the data have no test set: give data.test to evaluate on")
    only = [
        None if most is None else positions_of(data, split, own)
        for split, own in zip(splits, most or (0, 0), strict=True)
    ]
    train, test = (
        features_of(encoder, data, split, cache, device, only=chosen).to(device)
        for split, chosen in zip(splits, only, strict=True)
    )
    return train, test


def _amount(
    data: TrainingData, train: Features, fraction: float | None, per_class: int | None
) -> tuple[float | None, int | None]:
    """Convert the requested number of labels to a fraction, or labels per class, of a train subset.

    The subset may have fewer labels than requested.
    """
    if len(train.labels) == data.train_samples:
        return fraction, per_class
    if fraction is not None:
        return min(1.0, fraction * data.train_samples / len(train.labels)), None
    smallest = int(torch.unique(train.labels, return_counts=True)[1].min())
    return None, None if per_class is None else min(per_class, smallest)


def _over_seeds(
    command: str,
    encoder: Encoder,
    data: TrainingData,
    results: Sequence[SeedResult],
    amount: Mapping[str, float | None],
    protocol: Mapping[str, Any],
    seeds_differ: bool,
    device: torch.device,
    told: Told | None,
) -> Result:
    described = _of_data(data, len(results[0].right))
    interval, over = accuracy_interval([result.top1 for result in results], described["test_samples"], seeds_differ)
    areas = [result.auroc for result in results if result.auroc is not None]
    auroc, auroc_over = auroc_interval(areas, seeds_differ) if areas else (None, "none: a single class is tested")
    fraction, per_class = amount["fraction"], amount["per_class"]
    return Result(
        command=command,
        label=f"fraction-{fraction:g}" if fraction is not None else f"per-class-{per_class}",
        fingerprint=encoder.fingerprint,
        encoder={**(told or {}), **encoder.description},
        per_seed=[
            {
                "seed": result.seed,
                "top1": result.top1,
                "balanced_accuracy": result.balanced,
                "macro_auroc": result.auroc and result.auroc.value,
            }
            for result in results
        ],
        chosen=[{"seed": result.seed, **result.chosen} for result in results],
        interval=interval,
        auroc=auroc,
        protocol={
            **described,
            "train_samples": results[0].train_samples,
            **amount,
            **protocol,
            "seeds": [result.seed for result in results],
            "interval": over,
            "macro_auroc": "one class against the rest, of the softmax; mean over the classes that the test set has",
            "macro_auroc_interval": auroc_over,
        },
        made_with=made_with(device),
        right=[result.right for result in results],
    )


def _classes(data: TrainingData, fraction: float | None, per_class: int | None) -> int:
    """Number of classes; an invalid number of labels is an error here, before features are computed for hours."""
    classes = data.classes
    if data.train_labels is not None:
        label_subset(data.train_labels, 0, fraction=fraction, per_class=per_class)
    return classes


def _of_data(data: TrainingData, test_samples: int) -> dict[str, Any]:
    train, test = data.describe("train"), data.describe("test")
    return {
        "data": {"train": train, "test": test},
        "test_samples": test_samples,
        "transform": test["transform"],
        "metric": "top-1 accuracy",
    }


def _selection(choice: str, fallback: str, results: Sequence[SeedResult]) -> str:
    if any(result.chosen["held_out_accuracy"] is None for result in results):
        return f"none, as one label a class leaves none to hold out: {fallback} as it stands"
    return f"{choice} by accuracy on a held-out 20 % of the labelled train samples, stratified; refitted on all of them"
