"""An encoder's input, its fingerprint, and its two baselines."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from contrast.data import Standardisation
from contrast.errors import InputError
from contrast.evaluation import Encoder, encode, fingerprint, raw_input, with_backbone


def _encoder(backbone: nn.Module, width: int) -> Encoder:
    scaled = Standardisation((0.5, 0.25), (0.5, 2.0))
    return Encoder(backbone, width, (2, 4, 4), scaled, fingerprint(backbone), {"architecture": "test"})


def _images(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 2, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_the_backbone_sees_standardised_pixels():
    images = _images()
    pixels = encode(raw_input(_encoder(nn.Identity(), 1)), images).view(3, 2, 4, 4)
    for channel, (mean, std) in enumerate([(0.5, 0.5), (0.25, 2.0)]):
        torch.testing.assert_close(pixels[:, channel], (images[:, channel].float() / 255 - mean) / std)


def test_raw_input_is_as_wide_as_an_image():
    encoder = raw_input(_encoder(nn.Identity(), 1))
    assert encoder.width == encode(encoder, _images()).shape[1] == 32


def test_norms_and_dropout_are_in_evaluation_mode():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(32), nn.Dropout(0.5)).train()
    encoder = _encoder(net, 32)
    before = fingerprint(net)
    assert torch.equal(encode(encoder, _images()), encode(encoder, _images()))
    assert fingerprint(net) == before  # no statistics moved
    assert not encode(encoder, _images()).requires_grad


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (3, 2, 5, 4), (3, 2, 4, 5)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match="do not fit an encoder of"):
        encode(_encoder(nn.Flatten(), 32), torch.zeros(shape, dtype=torch.uint8))


def test_one_number_for_each_channel():
    with pytest.raises(InputError, match="not one number for each of the 3 channels"):
        Encoder(nn.Flatten(), 48, (3, 4, 4), Standardisation((0.5,), (0.5,)), "", {})


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())


def test_equal_networks_have_one_fingerprint():
    assert fingerprint(_net()) == fingerprint(_net())
    assert fingerprint(_net()) == fingerprint(copy.deepcopy(_net()))


@pytest.mark.parametrize("change", ["bit", "buffer", "name", "dtype", "structure"])
def test_the_fingerprint_sees(change):
    net = _net()
    if change == "bit":
        with torch.no_grad():
            weight = net[0].weight.view(-1)
            weight[5] = torch.nextafter(weight[5], torch.tensor(9.0))
    elif change == "buffer":
        net[1].running_mean[0] += 1e-6
    elif change == "name":
        net = nn.Sequential(*list(net)[:1], nn.Sequential(net[1]), *list(net)[2:])
    elif change == "dtype":
        net[1].num_batches_tracked = net[1].num_batches_tracked.double()  # the same eight zero bytes
    else:
        net[2] = nn.Tanh()  # leaves no trace in the state dict
    assert fingerprint(net) != fingerprint(_net())


def test_another_backbone_takes_the_same_images():
    encoder = _encoder(_net(), 12)
    torch.manual_seed(1)
    fresh = with_backbone(encoder, nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()), {"architecture": "random"})
    assert (fresh.standardisation, fresh.width) == (encoder.standardisation, encoder.width)
    assert fresh.fingerprint != encoder.fingerprint
    assert encode(fresh, _images()).shape == (3, 12)
