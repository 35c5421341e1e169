"""Fine-tuning of backbone and linear head end to end; the learning rate is chosen on held-out train data."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from contrast.checks import checked
from contrast.data.batch import LabelledBatch
from contrast.data.views import RandomResizedCrop
from contrast.errors import InputError
from contrast.evaluation.encoder import Encoder, encode, with_backbone
from contrast.evaluation.features import batches
from contrast.evaluation.labels import held_out_split
from contrast.randomness import Purpose, permutation, seed_from, uniform

__all__ = ["FineTuned", "FineTuning", "LabelledSet", "finetune", "load_set"]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Labelled data set in memory, in the order of the data set.

    Attributes:
        inputs: uint8 images (n, c, height, width) or float32 series (n, c, steps).
        labels: class of each sample, (n,).
        index: number of each sample in the data set, (n,).
    """

    inputs: UInt8[Tensor, "n c height width"] | Float[Tensor, "n c steps"]
    labels: Int[Tensor, " n"]
    index: Int[Tensor, " n"]

    def __getitem__(self, positions: Int[Tensor, " m"]) -> LabelledSet:
        return LabelledSet(self.inputs[positions], self.labels[positions], self.index[positions])

    def __len__(self) -> int:
        return len(self.labels)


@checked
def load_set(loader: DataLoader[LabelledBatch], progress: str | None = None) -> LabelledSet:
    """Load all samples of a loader into memory, without conversion: 154 MB for CIFAR-10's training set.

    Args:
        loader: yields labelled batches.
        progress: label of the progress bar on stderr; None shows no bar.
    """
    inputs, index, labels = (torch.cat(column) for column in zip(*batches(loader, progress), strict=True))
    return LabelledSet(inputs, labels, index)


@dataclass(frozen=True)
class FineTuning:
    """Settings of fine-tuning: epochs, batch size, learning rates, momentum and augmentation.

    Attributes:
        epochs: number of passes over the labelled samples.
        batch_size: samples per step; at least 2.
        rates: initial learning rates to choose from.
        momentum: momentum of SGD, Nesterov's variant.
        crop_scale: smallest and largest share of an image that a random crop keeps. None disables crop and flip. It
            must be None for series, because no augmentation keeps the class of every kind of series.
        flip: probability of a horizontal flip; set 0 where a mirror image belongs to another class.

    Raises:
        InputError: where a number is out of range.

    Source: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations (ICML 2020, arXiv
    2002.05709), appendix B.5: Nesterov's momentum, crop and flip, no weight decay; the crops here keep more.
    """

    epochs: int = 20
    batch_size: int = 64
    rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    momentum: float = 0.9
    crop_scale: tuple[float, float] | None = (0.5, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise InputError(f"{self.epochs} epochs with batches of {self.batch_size}: give at least 1 and 2")
        if not self.rates or min(self.rates) <= 0:
            raise InputError(f"learning rates {self.rates} to choose from: give one or more above 0")

    @property
    def transform(self) -> str:
        """Augmentation of a training sample, in words."""
        return "none" if self.crop_scale is None else "random crop and flip of the evaluation image"


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Fine-tuned classifier, with the learning rate that was chosen.

    Attributes:
        encoder: encoder with the fine-tuned backbone.
        head: maps features to class logits.
        rate: initial learning rate.
        held_out_accuracy: accuracy on the held-out samples at that rate; None where no samples were held out.
    """

    encoder: Encoder
    head: nn.Linear
    rate: float
    held_out_accuracy: float | None = None

    def logits(self, samples: LabelledSet, batch_size: int = 512) -> Float[Tensor, "n classes"]:
        """Class logits, (n, classes), on the CPU."""
        device, rows = self.head.weight.device, []
        for positions in torch.split(torch.arange(len(samples)), batch_size):
            with torch.no_grad():
                rows.append(self.head(encode(self.encoder, samples[positions].inputs.to(device))).cpu())
        return torch.cat(rows)

    def accuracy(self, samples: LabelledSet, batch_size: int = 512) -> float:
        """Top-1 accuracy: share of the samples whose largest logit is that of their class."""
        return float((self.logits(samples, batch_size).argmax(dim=1) == samples.labels).double().mean())


@checked
def finetune(
    encoder: Encoder,
    train: LabelledSet,
    classes: int,
    settings: FineTuning,
    seed: int,
    device: torch.device,
    progress: str | None = None,
) -> FineTuned:
    """Fine-tune an encoder, with the learning rate chosen on held-out training samples.

    A stratified fifth of the samples is held out to choose the rate; the final training uses all samples. The function
    sees only training samples, so neither the rate nor the epoch can be chosen on test data. The result is always the
    last epoch. The given encoder is not modified.

    Args:
        encoder: encoder from which training starts.
        train: samples whose labels may be used.
        classes: number of classes.
        settings: settings of the training.
        seed: seed of the sample order, the crops, the held-out split and dropped units or paths.
        device: device on which to train.
        progress: label of the progress bar on stderr; None shows no bar.

    Raises:
        InputError: where there are fewer than two samples, or crops are requested for series.
    """
    if settings.crop_scale is not None and len(encoder.input_shape) != 3:
        raise InputError(f"crops need images, and a sample here has shape {encoder.input_shape}: give crop_scale None")
    if len(train) < 2:
        raise InputError(f"fine-tuning on {len(train)} sample: give at least 2, with a larger fraction of the labels")
    fit, held = held_out_split(train.labels, seed)
    if len(held) == 0:
        return _train(encoder, train, classes, settings, settings.rates[0], seed, device, progress)
    candidates = []
    for rate in settings.rates:
        name = None if progress is None else f"{progress}, trying rate {rate:g}"
        tuned = _train(encoder, train[fit], classes, settings, rate, seed, device, name)
        candidates.append((tuned.accuracy(train[held]), rate))
    accuracy, rate = max(candidates, key=lambda candidate: candidate[0])  # max keeps the first of equally good rates
    tuned = _train(encoder, train, classes, settings, rate, seed, device, progress)
    return replace(tuned, held_out_accuracy=accuracy)


def _train(
    encoder: Encoder,
    train: LabelledSet,
    classes: int,
    settings: FineTuning,
    rate: float,
    seed: int,
    device: torch.device,
    progress: str | None,
) -> FineTuned:
    with torch.random.fork_rng():
        torch.manual_seed(seed_from(seed, Purpose.PROBE))  # for dropout and stochastic depth
        backbone = copy.deepcopy(encoder.backbone).to(device).requires_grad_(True).train()
        head = nn.Linear(encoder.width, classes, device=device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        per_epoch = math.ceil(len(train) / settings.batch_size)
        parameters = [*backbone.parameters(), *head.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, nesterov=settings.momentum > 0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * per_epoch)
        for epoch in tqdm(range(settings.epochs), desc=progress, disable=progress is None, leave=False):
            for inputs, labels in _batches(train, encoder, per_epoch, settings, (seed, epoch), device):
                loss = F.cross_entropy(head(backbone(inputs)), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                optimizer.step()
                schedule.step()
    description = {**encoder.description, "fine_tuned": {"rate": rate, **asdict(settings)}}
    return FineTuned(with_backbone(encoder, backbone, description), head, rate)


def _batches(
    train: LabelledSet, encoder: Encoder, count: int, settings: FineTuning, keys: tuple[int, int], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Standardised inputs and labels of one epoch, in `count` batches of nearly equal size.

    No batch has a single sample.
    """
    seed, epoch = keys
    for positions in permutation(len(train), seed, Purpose.PROBE, epoch).tensor_split(count):
        batch = train[positions]
        inputs = batch.inputs.to(device)
        if settings.crop_scale is not None:
            crop = RandomResizedCrop(encoder.input_shape[-1], settings.crop_scale, flip=settings.flip)
            inputs = crop(inputs / 255, uniform((seed, Purpose.PROBE, epoch), batch.index.to(device), crop.draws))
        yield encoder.standardisation(inputs), batch.labels.to(device)
