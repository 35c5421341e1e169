"""The blur is torchvision's, each image with a width of its own."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from contrast.data.views.blur import GaussianBlur, gaussian_blur
from contrast.errors import InputError


@pytest.mark.parametrize(
    ("radius", "height", "width"), [(1, 8, 8), (7, 8, 8), (1, 28, 33), (3, 64, 64), (8, 32, 32), (11, 224, 160)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_blurred_as_torchvision_blurs_it(radius, height, width, channels):
    images = torch.rand(3, channels, height, width)
    sigma = torch.tensor([0.1, 0.6, 2.0])
    kernel = [2 * radius + 1] * 2
    expected = torch.stack(
        [F.gaussian_blur(image, kernel, [float(s)] * 2) for image, s in zip(images, sigma, strict=True)]
    )
    torch.testing.assert_close(gaussian_blur(images, sigma, radius), expected, rtol=0, atol=2e-6)


def test_a_point_becomes_a_gaussian():
    image = torch.zeros(1, 1, 41, 41)
    image[0, 0, 20, 20] = 1
    blurred = gaussian_blur(image, torch.tensor([1.5]), radius=15)[0, 0]
    offsets = torch.arange(41) - 20
    bell = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    torch.testing.assert_close(blurred, bell / bell.sum(), rtol=0, atol=1e-6)


def test_an_even_image_stays_even():
    image = torch.full((2, 3, 16, 16), 0.7)
    torch.testing.assert_close(gaussian_blur(image, torch.tensor([0.1, 2.0]), 5), image)


@pytest.mark.parametrize("step", [GaussianBlur(radius=0), GaussianBlur(radius=3, blur=0.0)])
def test_radius_or_probability_zero_blurs_nothing(step):
    images = torch.rand(4, 3, 9, 9)
    assert torch.equal(step(images.clone(), torch.zeros(4, step.draws)), images)


@pytest.mark.parametrize(
    "blurred",
    [
        lambda step, images: step(images, torch.zeros(2, 2)),
        lambda step, images: step.on_cpu(torch.zeros(2, 2))(images.numpy(), slice(0, 2)),
    ],
    ids=["torch", "compiled"],
)
def test_a_view_that_is_smaller_than_the_kernel_is_refused(blurred):
    blurred(GaussianBlur(radius=6), torch.rand(2, 3, 7, 9))
    with pytest.raises(InputError, match=r"^radius is 7: reflected borders of 9x7 pixels allow at most 6"):
        blurred(GaussianBlur(radius=7), torch.rand(2, 3, 7, 9))
