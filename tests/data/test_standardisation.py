"""Mean 0 and deviation 1, of images and of series, against a loop over channels."""

from __future__ import annotations

import pytest
import torch

from contrast.data import Standardisation
from contrast.errors import InputError

SCALED = Standardisation((0.5, 0.25), (0.5, 2.0))


def test_whole_numbers_count_as_0_to_1():
    images = torch.randint(0, 256, (3, 2, 4, 5), dtype=torch.uint8)
    found = SCALED(images)
    assert found.dtype == torch.float32
    for channel in range(2):
        expected = (images[:, channel].float() / 255 - SCALED.mean[channel]) / SCALED.std[channel]
        assert torch.equal(found[:, channel], expected)
    assert torch.equal(SCALED(images.float() / 255), found)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_compiled_for_a_cpu_is_what_torch_computes(channels: int):
    """A batch that asks for a gradient, or is in another layout, goes through torch."""
    mean, std = (0.485, 0.456, 0.406, 0.3)[:channels], (0.229, 0.224, 0.225, 0.7)[:channels]
    images, standardised = torch.rand(70, channels, 29, 31), Standardisation(mean, std)
    found, asked = standardised(images), images.clone().requires_grad_()
    expected = standardised(asked)
    assert found.stride() == expected.stride()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(standardised(images.mT).mT, found, rtol=1e-6, atol=1e-6)
    expected.sum().backward()
    torch.testing.assert_close(asked.grad[0, :, 0, 0], 1 / torch.tensor(std))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_series_are_taken_as_they_are(dtype: torch.dtype):
    series = 100 * torch.randn(3, 2, 7, dtype=dtype)
    found = SCALED(series)
    assert found.dtype == dtype
    for channel in range(2):
        assert torch.equal(found[:, channel], (series[:, channel] - SCALED.mean[channel]) / SCALED.std[channel])


def test_one_number_stands_for_all_channels():
    assert Standardisation.given([0.5], [1.0, 2.0, 3.0], 3) == Standardisation((0.5,) * 3, (1.0, 2.0, 3.0))


def test_images_are_laid_out_for_convolutions():
    assert SCALED(torch.rand(2, 2, 4, 5)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_convolutions_of_grey_images_work_in_channels_last(dtype: torch.dtype):
    images = (255 * torch.rand(3, 1, 4, 5)).to(dtype)
    found = Standardisation((0.5,), (0.25,))(images)
    values = images / 255 if dtype == torch.uint8 else images
    assert torch.equal(found, (values - 0.5) / 0.25)
    maps = torch.nn.Conv2d(1, 2, 3)(found)
    assert maps.is_contiguous(memory_format=torch.channels_last)
    assert not maps.is_contiguous()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"data\.mean has 2 numbers for 3 channels"):
        Standardisation.given([0.0, 0.0], [1.0], 3)
    with pytest.raises(InputError, match="divides the data: give numbers above 0"):
        Standardisation.given([0.0], [1.0, 0.0], 2)
    with pytest.raises(InputError, match="2 means and 1 deviations"):
        Standardisation((0.0, 0.0), (1.0,))
