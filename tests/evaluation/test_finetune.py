"""Fine-tuning on a task that a tiny network learns at once, and what it may and may not touch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from contrast.data.batch import LabelledBatch
from contrast.errors import InputError
from contrast.evaluation import (
    Encoder,
    FineTuning,
    Images,
    finetune,
    finetune_over_seeds,
    fingerprint,
    load_images,
)
from contrast.models import ConvNet

CPU = torch.device("cpu")
QUICK = FineTuning(epochs=6, batch_size=16, rates=(1e-6, 0.1), crop_scale=(0.8, 1.0))


def _encoder() -> Encoder:
    torch.manual_seed(0)
    net = ConvNet((4, 8), channels=1, image_size=8)
    return Encoder(net, 8, 8, 1, (0.5,), (0.25,), fingerprint(net), {"architecture": "convnet"})


def _images(samples: int, seed: int, labels: torch.Tensor | None = None) -> Images:
    """Bars of 2 pixels, upright or lying."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 2 if labels is None else labels
    images = torch.randint(0, 80, (samples, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, torch.arange(samples) % 2, strict=True):
        bars = image if label == 0 else image.transpose(1, 2)
        bars[:, 1:3] += 150
        bars[:, 5:7] += 150
    return Images(images, labels, torch.arange(samples))


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
    encoder = Encoder(net, 64, 8, 1, (0.5,), (0.25,), fingerprint(net), {})
    finetune(encoder, _images(17, 0), 2, FineTuning(1, 8, (0.1,)), seed=0, device=CPU)
    with pytest.raises(InputError, match="fine-tuning on 1 sample"):
        finetune(_encoder(), _images(1, 0), 2, QUICK, seed=0, device=CPU)


def test_all_that_a_loader_yields():
    whole = _images(7, 0)
    rows = [LabelledBatch(whole.images[i], whole.index[i] + 50, whole.labels[i]) for i in range(7)]
    found = load_images(DataLoader(rows, batch_size=3))
    assert torch.equal(found.images, whole.images)
    assert found.index.tolist() == list(range(50, 57))
    with pytest.raises(InputError, match="empty"):
        load_images(DataLoader([]))


@pytest.mark.parametrize(
    "arguments", [{"epochs": 0}, {"batch_size": 1}, {"rates": ()}, {"rates": (0.1, -1.0)}], ids=lambda a: next(iter(a))
)
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(InputError, match="give"):
        FineTuning(**arguments)
