"""The colour changes are torchvision's, each image with a factor of its own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from contrast.data.views.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, adjust_hue, blend_, shares, to_grey


def adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return blended(images, BRIGHTNESS, factor)


def adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return blended(images, CONTRAST, factor)


def adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return blended(images, SATURATION, factor)


def blended(images: torch.Tensor, number: int, factor: torch.Tensor) -> torch.Tensor:
    return blend_(images.clone(), shares(torch.full(factor.shape, number), factor))


ADJUSTMENTS = {
    adjust_brightness: F.adjust_brightness,
    adjust_contrast: F.adjust_contrast,
    adjust_saturation: F.adjust_saturation,
    adjust_hue: F.adjust_hue,
}


def images(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Random images, among them what breaks hue: greys, pure colours, black, white, two equal channels."""
    generator = torch.Generator().manual_seed(height)
    made = torch.rand(count, channels, height, width, generator=generator)
    if channels == 3:
        made[0, 1:] = made[0, :1]
        made[1] = (made[1] > 0.5).float()
        made[2, 1] = made[2, 0]
    return made


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (31, 17)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("adjust", ADJUSTMENTS, ids=lambda adjust: adjust.__name__)
def test_each_image_is_changed_as_torchvision_changes_it(adjust, channels, height, width):
    batch = images(9, channels, height, width)
    amounts = torch.linspace(-0.5, 0.5, 9) if adjust is adjust_hue else torch.linspace(0, 2, 9)
    expected = torch.stack([ADJUSTMENTS[adjust](image, float(x)) for image, x in zip(batch, amounts, strict=True)])
    torch.testing.assert_close(adjust(batch, amounts), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_is_torchvisions(channels):
    batch = images(5, channels, 12, 9)
    torch.testing.assert_close(to_grey(batch), F.rgb_to_grayscale(batch, channels), rtol=0, atol=1e-6)


def test_what_comes_in_is_left_as_it_was():
    batch = images(5, 3, 6, 6)
    before = batch.clone()
    for adjust in ADJUSTMENTS:
        adjust(batch, torch.full((5,), 0.4))
    to_grey(batch)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blend_by_no_number_changes_not_one_bit(channels):
    batch = images(9, channels, 12, 7)
    assert torch.equal(blended(batch, HUE, torch.linspace(0, 2, 9)), batch)
    mixed = blend_(batch.clone(), shares(torch.arange(9) % 5, torch.full((9,), 0.3)))
    assert torch.equal(mixed[3:5], batch[3:5])
    assert all(not torch.equal(mixed[row], batch[row]) for row in ((0, 1, 2, 5) if channels == 3 else (0, 1, 5, 6)))


colours = st.tuples(*[st.floats(0, 1, width=32)] * 3)


@settings(deadline=None, max_examples=60)
@given(colours, st.floats(-0.5, 0.5))
def test_a_hue_shift_keeps_value_and_saturation_and_is_undone_by_its_opposite(colour, shift):
    pixel = torch.tensor(colour).reshape(1, 3, 1, 1)
    turned = adjust_hue(pixel, torch.tensor([shift]))
    torch.testing.assert_close(turned.amax(1), pixel.amax(1))
    torch.testing.assert_close(turned.amin(1), pixel.amin(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(adjust_hue(turned, torch.tensor([-shift])), pixel, rtol=0, atol=5e-6)


@settings(deadline=None, max_examples=30)
@given(colours)
def test_a_third_of_a_turn_exchanges_the_channels(colour):
    pixel = torch.tensor(colour).reshape(1, 3, 1, 1)
    torch.testing.assert_close(adjust_hue(pixel, torch.tensor([1 / 3])), pixel.roll(1, 1), rtol=0, atol=3e-6)


@settings(deadline=None, max_examples=30)
@given(colours, st.sampled_from([adjust_brightness, adjust_contrast, adjust_saturation]))
def test_factor_one_changes_nothing(colour, adjust):
    pixel = torch.tensor(colour).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(adjust(pixel, torch.ones(1)), pixel)
