"""Fine-tuning on a task that a tiny network learns at once, and what it may and may not touch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from contrast.data import Standardisation
from contrast.data.batch import LabelledBatch
from contrast.errors import InputError
from contrast.evaluation import (
    Encoder,
    FineTuning,
    LabelledSet,
    finetune,
    finetune_over_seeds,
    fingerprint,
    load_set,
)
from contrast.models import ConvNet, ResNet1d

CPU = torch.device("cpu")
SCALED = Standardisation((0.5,), (0.25,))
QUICK = FineTuning(epochs=6, batch_size=16, rates=(1e-6, 0.1), crop_scale=(0.8, 1.0))


def _encoder() -> Encoder:
    torch.manual_seed(0)
    net = ConvNet((4, 8), channels=1, image_size=8)
    return Encoder(net, 8, (1, 8, 8), SCALED, fingerprint(net), {"architecture": "convnet"})


def _images(samples: int, seed: int, labels: torch.Tensor | None = None) -> LabelledSet:
    """Bars of 2 pixels, upright or lying."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 2 if labels is None else labels
    images = torch.randint(0, 80, (samples, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, torch.arange(samples) % 2, strict=True):
        bars = image if label == 0 else image.transpose(1, 2)
        bars[:, 1:3] += 150
        bars[:, 5:7] += 150
    return LabelledSet(images, labels, torch.arange(samples))


def test_it_learns_and_takes_the_rate_that_learns():
    tuned = finetune(_encoder(), _images(60, 0), 2, QUICK, seed=0, device=CPU)
    assert tuned.rate == 0.1
    assert tuned.held_out_accuracy is not None
    assert tuned.held_out_accuracy > 0.9
    assert tuned.accuracy(_images(40, 1)) > 0.9


def test_the_given_encoder_is_left_as_it_is():
    encoder = _encoder()
    tuned = finetune(encoder, _images(20, 0), 2, FineTuning(1, 8, (0.1,)), seed=0, device=CPU)
    assert fingerprint(encoder.backbone) == encoder.fingerprint
    assert not encoder.backbone.training
    assert tuned.encoder.fingerprint == fingerprint(tuned.encoder.backbone) != encoder.fingerprint
    assert tuned.encoder.description["fine_tuned"]["rate"] == 0.1


def test_a_seed_gives_the_same_network_whatever_was_drawn_before():
    settings = FineTuning(1, 8, (0.05,))
    encoder = _encoder()
    torch.manual_seed(1)
    first = finetune(encoder, _images(20, 0), 2, settings, seed=3, device=CPU)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = finetune(encoder, _images(20, 0), 2, settings, seed=3, device=CPU)
    assert torch.equal(torch.get_rng_state(), state)  # and draws nothing that others would have drawn
    assert torch.equal(first.head.weight, again.head.weight)
    assert first.encoder.fingerprint == again.encoder.fingerprint
    other = finetune(encoder, _images(20, 0), 2, settings, seed=4, device=CPU)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_garbage_test_labels_change_no_choice():
    train = _images(80, 0)
    honest, garbage = _images(20, 1), _images(20, 1, labels=1 - torch.arange(20) % 2)
    results = [
        finetune_over_seeds(_encoder(), train, test, 2, [0], QUICK, CPU, per_class=30)[0] for test in (honest, garbage)
    ]
    assert results[0].chosen == results[1].chosen
    assert abs(results[0].top1 - 0.5) > 0.2  # the two do differ
    assert results[0].top1 == pytest.approx(1 - results[1].top1)
    assert results[0].train_samples == 60


def test_one_label_a_class_takes_the_first_rate():
    tuned = finetune(_encoder(), _images(2, 0), 2, FineTuning(1, 8, (0.02, 0.1)), seed=0, device=CPU)
    assert (tuned.rate, tuned.held_out_accuracy) == (0.02, None)


def test_no_batch_is_of_one_image():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))  # refuses a batch of one
    encoder = Encoder(net, 64, (1, 8, 8), SCALED, fingerprint(net), {})
    finetune(encoder, _images(17, 0), 2, FineTuning(1, 8, (0.1,)), seed=0, device=CPU)
    with pytest.raises(InputError, match="fine-tuning on 1 sample"):
        finetune(_encoder(), _images(1, 0), 2, QUICK, seed=0, device=CPU)


def test_all_that_a_loader_yields():
    whole = _images(7, 0)
    rows = [LabelledBatch(whole.inputs[i], whole.index[i] + 50, whole.labels[i]) for i in range(7)]
    found = load_set(DataLoader(rows, batch_size=3))
    assert torch.equal(found.inputs, whole.inputs)
    assert found.index.tolist() == list(range(50, 57))
    with pytest.raises(InputError, match="empty"):
        load_set(DataLoader([]))


@pytest.mark.parametrize(
    "arguments", [{"epochs": 0}, {"batch_size": 1}, {"rates": ()}, {"rates": (0.1, -1.0)}], ids=lambda a: next(iter(a))
)
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(InputError, match="give"):
        FineTuning(**arguments)


def _series(samples: int, seed: int) -> LabelledSet:
    """Slow and fast sines in one channel, far from mean 0."""
    phase = torch.rand(samples, 1, 1, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(samples) % 2
    rate = torch.where(labels == 0, 1.0, 4.0)[:, None, None]
    series = 100 + 10 * torch.sin(2 * torch.pi * (rate * torch.linspace(0, 1, 24) + phase))
    return LabelledSet(series, labels, torch.arange(samples))


def _series_encoder() -> Encoder:
    torch.manual_seed(0)
    net = ResNet1d((1, 1), base_width=4)
    return Encoder(net, 8, (1, 24), Standardisation((100.0,), (7.0,)), fingerprint(net), {})


def test_series_are_learned_as_they_are():
    settings = FineTuning(epochs=8, batch_size=16, rates=(0.1,), crop_scale=None)
    assert settings.transform == "none"
    tuned = finetune(_series_encoder(), _series(60, 0), 2, settings, seed=0, device=CPU)
    assert tuned.accuracy(_series(40, 1)) > 0.9
    logits = tuned.logits(_series(40, 1), batch_size=7)
    assert logits.shape == (40, 2)
    assert torch.equal(logits.argmax(1), tuned.logits(_series(40, 1)).argmax(1))


def test_a_network_trains_on_the_standardised_series_themselves():
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(inputs.detach())
            return self.weight * inputs.flatten(1)

    train = _series(4, 0)  # two of a class
    encoder = Encoder(Watching(), 24, (1, 24), Standardisation((100.0,), (7.0,)), "", {})
    finetune(encoder, train, 2, FineTuning(1, 8, (0.1,), crop_scale=None), seed=0, device=CPU)
    expected = (train.inputs - 100) / 7
    last = seen[-1]
    assert torch.equal(last.flatten(1).sort(dim=0).values, expected.flatten(1).sort(dim=0).values)


def test_crops_of_series_are_refused():
    with pytest.raises(InputError, match=r"crops need images, and a sample here has shape \(1, 24\)"):
        finetune(_series_encoder(), _series(20, 0), 2, QUICK, seed=0, device=CPU)
