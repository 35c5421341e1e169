"""Jitter and grey: the distribution of what is drawn, and that it is applied in the order drawn."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as F

from contrast.data.views import step
from contrast.data.views.blur import GaussianBlur
from contrast.data.views.colour import ColourJitter, RandomGrey
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


@pytest.mark.parametrize("made", [ColourJitter(0.8, 0.8, 0.8, 0.2, jitter=0.5), RandomGrey(0.5), GaussianBlur(2)])
def test_computing_all_images_and_selecting_equals_computing_the_chosen(made, monkeypatch):
    numbers, images = draws(made.draws, samples=40), torch.rand(40, 3, 8, 8)
    chosen_alone = made(images.clone(), numbers)
    monkeypatch.setattr(step, "_change_rows", step._change_all)
    torch.testing.assert_close(made(images.clone(), numbers), chosen_alone, rtol=0, atol=1e-6)
