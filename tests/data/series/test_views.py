"""Views of series: each step against a loop over one series, draws that are keyed, and arguments."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from contrast.data.series import Crop, Jitter, Permutation, Scaling, SeriesStep, SeriesViews
from contrast.data.series.views import normal
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

SHAPES = [(1, 1), (1, 2), (3, 7), (12, 25), (2, 100)]
STRONG = SeriesViews(crop_scale=(0.4, 0.9), symmetric=True)


def series(count: int, channels: int = 3, steps: int = 20, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, steps, generator=torch.Generator().manual_seed(seed))


def drawn(step: SeriesStep, batch: Tensor, seed: int = 0) -> Tensor:
    return uniform((seed, 99), torch.arange(len(batch)), step.draws(*batch.shape[1:]))


def normal_by_hand(draws: list[float]) -> list[float]:
    pairs = list(zip(draws[::2], draws[1::2], strict=True))
    radii = [math.sqrt(-2 * math.log(1 - u)) for u, _ in pairs]
    angles = [2 * math.pi * v for _, v in pairs]
    return [r * math.cos(a) for r, a in zip(radii, angles, strict=True)] + [
        r * math.sin(a) for r, a in zip(radii, angles, strict=True)
    ]


def test_normal_numbers_are_normal():
    numbers = normal(uniform((0, 5), torch.arange(4000), 10))
    assert bool(torch.isfinite(numbers).all())
    assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 0.01
    correlations = torch.corrcoef(numbers.T) - torch.eye(10)
    assert float(correlations.abs().max()) < 0.07
    assert bool(torch.isfinite(normal(torch.tensor([[0.0, 0.0, 1 - 2**-24, 0.5]]))).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_jitter_against_a_loop(shape: tuple[int, int]):
    batch = series(4, *shape)
    step = Jitter(0.7)
    draws = drawn(step, batch)
    found = step(batch, draws)
    for row in range(4):
        noise = normal_by_hand(draws[row].tolist())
        for channel in range(shape[0]):
            for time in range(shape[1]):
                expected = float(batch[row, channel, time]) + 0.7 * noise[channel * shape[1] + time]
                assert float(found[row, channel, time]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_scaling_has_one_factor_a_channel(shape: tuple[int, int]):
    batch = series(4, *shape)
    step = Scaling(1.1)
    draws = drawn(step, batch)
    found = step(batch, draws)
    for row in range(4):
        factors = normal_by_hand(draws[row].tolist())
        for channel in range(shape[0]):
            expected = batch[row, channel] * (1 + 1.1 * factors[channel])
            torch.testing.assert_close(found[row, channel], expected, atol=1e-5, rtol=1e-5)


def permuted_by_hand(one: Tensor, draws: list[float], fewest: int, most: int) -> Tensor:
    steps = one.shape[1]
    segments = min(steps, fewest + int(draws[0] * (most - fewest + 1)))
    borders = sorted(range(steps - 1), key=lambda place: draws[1 + place])[: segments - 1]
    ends = [*sorted(border + 1 for border in borders), steps]
    parts = [one[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]
    order = draws[steps : steps + segments]
    return torch.cat([parts[place] for place in sorted(range(segments), key=lambda place: order[place])], dim=1)


@pytest.mark.parametrize("segments", [(1, 1), (2, 2), (2, 8), (5, 5)])
@pytest.mark.parametrize("shape", SHAPES)
def test_permutation_against_a_loop(shape: tuple[int, int], segments: tuple[int, int]):
    batch = series(30, *shape)
    step = Permutation(segments)
    draws = drawn(step, batch)
    found = step(batch, draws)
    for row in range(30):
        assert torch.equal(found[row], permuted_by_hand(batch[row], draws[row].tolist(), *segments))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 99))
def test_a_permutation_keeps_every_step_with_its_neighbour_channels(steps: int, most: int, seed: int):
    batch = torch.arange(steps).float().expand(5, 2, steps) + torch.tensor([0.0, 1000.0])[:, None]
    step = Permutation((1, most))
    found = step(batch, drawn(step, batch, seed))
    assert torch.equal(found.sort(dim=2).values, batch)
    assert torch.equal(found[:, 1] - found[:, 0], torch.full((5, steps), 1000.0))
    jumps = (found[:, 0].diff(dim=1) != 1).sum(dim=1)
    assert int(jumps.max()) <= most - 1 if steps > 1 else True


def test_every_number_of_segments_is_as_likely():
    batch = torch.arange(400).float().expand(3000, 1, 400)
    step = Permutation((2, 8))
    jumps = (step(batch, drawn(step, batch))[:, 0].diff(dim=1) != 1).sum(dim=1)
    # Of n segments none, some or all of n − 1 borders are jumps; the most there can be is 7.
    assert set(jumps.tolist()) <= set(range(8))
    count = drawn(step, batch)[:, 0] * 7
    assert stats.chisquare(torch.bincount(count.long(), minlength=7).numpy()).pvalue > 0.01
    assert int(jumps.max()) == 7


def test_a_crop_against_a_loop():
    batch = series(20, 2, 15)
    step = Crop((0.3, 0.8))
    draws = drawn(step, batch)
    found = step(batch, draws)
    for row in range(20):
        width = 14 * (0.3 + 0.5 * float(draws[row, 0]))
        first = (14 - width) * float(draws[row, 1])
        for time in range(15):
            position = first + width * time / 14
            before, after = math.floor(position), min(math.floor(position) + 1, 14)
            for channel in range(2):
                left, right = float(batch[row, channel, before]), float(batch[row, channel, after])
                expected = left + (position - before) * (right - left)
                assert float(found[row, channel, time]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    "step", [Jitter(0.0), Scaling(0.0), Permutation((1, 1)), Crop((1.0, 1.0))], ids=lambda step: type(step).__name__
)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_that_is_left_out_changes_nothing(step: SeriesStep, shape: tuple[int, int]):
    batch = series(6, *shape)
    assert torch.equal(step(batch, drawn(step, batch)), batch)


def views_of(batch: Tensor, index: Tensor, epoch: int = 3, seed: int = 1, views: SeriesViews = STRONG) -> Tensor:
    return torch.stack(views(batch, index, epoch, seed))


@given(st.permutations(range(8)), st.integers(1, 8))
def test_a_view_is_the_same_alone_and_in_any_batch(order: list[int], count: int):
    batch, index = series(8), torch.arange(100, 108)
    whole = views_of(batch, index)
    chosen = torch.tensor(order[:count])
    torch.testing.assert_close(views_of(batch[chosen], index[chosen]), whole[:, chosen], rtol=0, atol=1e-6)


def test_another_epoch_seed_sample_or_view_is_another_view():
    batch, index = series(1).expand(4, -1, -1), torch.arange(4)
    whole = views_of(batch, index)
    different = [*whole.flatten(0, 1), *views_of(batch, index, epoch=4).flatten(0, 1)]
    different += [*views_of(batch, index, seed=2).flatten(0, 1)]
    for place, one in enumerate(different):
        for other in different[place + 1 :]:
            assert float((one - other).abs().max()) > 0.1
    assert torch.equal(views_of(batch, index), whole)


def test_the_order_of_the_steps_and_the_purpose_of_their_draws():
    batch, index = series(5, 2, 9), torch.tensor([3, 1, 4, 15, 9])
    steps = (Crop((0.5, 0.7)), Permutation((2, 3)), Scaling(0.4), Jitter(0.2))
    found = SeriesViews(0.4, (2, 3), 0.2, (0.5, 0.7), symmetric=True)(batch, index, epoch=6, seed=8)
    for view in range(2):
        made = batch
        draws = uniform((8, 6, Purpose.VIEW, view), index, sum(step.draws(2, 9) for step in steps))
        for step in steps:
            made, draws = step(made, draws[:, : step.draws(2, 9)]), draws[:, step.draws(2, 9) :]
        assert torch.equal(found[view], made)


def test_by_default_one_view_is_scaled_and_the_other_permuted_and_jittered():
    batch, index = series(200, 2, 30) + 5, torch.arange(200)
    first, second = SeriesViews(jitter=0.0)(batch, index, 0, 0)
    factors = first / batch
    torch.testing.assert_close(factors, factors[:, :, :1].expand_as(factors), rtol=1e-4, atol=1e-4)
    assert float(factors[:, :, 0].std()) == pytest.approx(1.1, rel=0.1)
    assert torch.equal(second.sort(dim=2).values, batch.sort(dim=2).values)
    assert not torch.equal(second, batch)
    noise = SeriesViews(segments=(1, 1))(batch, index, 0, 0)[1] - batch
    assert float(noise.std()) == pytest.approx(0.8, rel=0.05)


def test_the_series_that_were_given_are_left_as_they_are():
    batch = series(4)
    before = batch.clone()
    STRONG(batch, torch.arange(4), 0, 0)
    assert torch.equal(batch, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scaling": -1.0}, "scaling is -1.0"),
        ({"jitter": math.inf}, "jitter is inf"),
        ({"segments": (0, 3)}, "segments is (0, 3)"),
        ({"segments": (4, 3)}, "segments is (4, 3)"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale is (0.0, 1.0)"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale is (0.5, 1.5)"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, object], message: str):
    with pytest.raises(InputError) as refused:
        SeriesViews(**arguments)  # type: ignore[arg-type]  # one of several arguments
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
