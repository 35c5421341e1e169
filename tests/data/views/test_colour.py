"""Jitter and grey: the distribution of what is drawn, and that it is applied in the order drawn."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as F

from contrast.data.views.blur import GaussianBlur
from contrast.data.views.colour import ColourJitter, RandomGrey
from contrast.data.views.step import Step, apply_where
from contrast.randomness import uniform

SAMPLES = 20_000
ADJUST = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def draws(count: int, samples: int = SAMPLES) -> torch.Tensor:
    return uniform((0, 5), torch.arange(samples), count)


def test_jitter_draws_factors_from_their_ranges():
    _, _, amount = ColourJitter(0.4, 0.8, 1.6, 0.2).parameters(draws(9))
    ranges = [(0.6, 1.4), (0.2, 1.8), (0.0, 2.6), (-0.2, 0.2)]
    for column, (low, high) in enumerate(ranges):
        assert stats.kstest(amount[:, column], "uniform", args=(low, high - low)).pvalue > 1e-3


def test_all_24_orders_are_equally_likely():
    _, order, _ = ColourJitter(0.4, 0.4, 0.4, 0.1).parameters(draws(9))
    times = Counter(map(tuple, order.tolist()))
    assert len(times) == 24
    assert stats.chisquare(list(times.values())).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.8, 1.0])
def test_jitter_grey_and_blur_happen_with_their_probability(probability):
    jitter = ColourJitter(0.4, 0.4, 0.4, 0.1, probability).parameters(draws(9)).chosen
    grey = RandomGrey(probability).chosen(draws(1))
    blurred, sigma = GaussianBlur(3, probability, (0.1, 2.0)).parameters(draws(2))
    for chosen in (jitter, grey, blurred):
        assert stats.binomtest(int(chosen.sum()), SAMPLES, probability).pvalue > 1e-3
    assert stats.kstest(sigma, "uniform", args=(0.1, 1.9)).pvalue > 1e-3


def test_no_two_draws_of_the_jitter_are_tied_to_each_other():
    chosen, order, amount = ColourJitter(0.4, 0.4, 0.4, 0.1, 0.5).parameters(draws(9))
    table = torch.cat((chosen[:, None].float(), order.argsort(1)[:, :3].float(), amount), 1)
    correlation = torch.corrcoef(table.T) - torch.eye(8)
    correlation[1:4, 1:4] = 0  # ranks exclude each other
    assert correlation.abs().max() < 0.03


@pytest.mark.parametrize("channels", [1, 3])
def test_adjustments_are_applied_in_the_order_drawn(channels):
    jitter = ColourJitter(0.8, 0.8, 0.8, 0.2, jitter=0.8)
    numbers, images = draws(9, samples=60), torch.rand(60, channels, 9, 11)
    expected = []
    for image, chosen, order, amount in zip(images, *jitter.parameters(numbers), strict=True):
        for number in order.tolist() if chosen else []:
            image = ADJUST[number](image, float(amount[number]))
        expected.append(image)
    torch.testing.assert_close(jitter(images.clone(), numbers), torch.stack(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "made",
    [ColourJitter(0.8, 0.8, 0.8, 0.2, jitter=0.5), RandomGrey(0.5), GaussianBlur(2), GaussianBlur(7, 0.5, (0.1, 3.0))],
    ids=lambda made: type(made).__name__,
)
def test_what_is_compiled_for_a_cpu_is_the_step_in_torch(made, channels):
    numbers, images = draws(made.draws, samples=40), torch.rand(40, channels, 9, 14)
    images[0], images[1], images[2, 0] = images[0, :1], (images[1] > 0.5).float(), images[2, -1]  # what breaks hue
    expected, change = made(images.clone(), numbers), made.on_cpu(numbers)
    for rows in (slice(0, 3), slice(3, 40)):
        change(images.numpy()[rows], rows)
    torch.testing.assert_close(images, expected, rtol=0, atol=3e-6)


def test_a_step_of_ones_own_is_called_on_a_cpu_too():
    class Negative(Step):
        draws = 1

        def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
            return apply_where(draws[:, 0] < 0.5, lambda chosen: 1 - chosen, images)

    numbers, images = draws(1, samples=30), torch.rand(30, 3, 4, 4)
    expected = torch.stack(
        [1 - image if chosen else image for image, chosen in zip(images, numbers < 0.5, strict=True)]
    )
    Negative().on_cpu(numbers)(images.numpy()[10:20], slice(10, 20))
    assert torch.equal(images[10:20], expected[10:20])
    assert not torch.equal(images[:10], expected[:10])
