"""The recipes: order of their steps, keyed randomness, the two ways to crop, arguments."""

from __future__ import annotations

import threading
import time
from functools import partial

import jsonargparse
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from contrast.data.views import (
    ColourJitter,
    GaussianBlur,
    MoCoV1Views,
    MoCoV2Views,
    RandomGrey,
    RandomResizedCrop,
    SimCLRViews,
    Step,
    Views,
)
from contrast.data.views import recipes as views
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

RECIPES = (SimCLRViews, MoCoV1Views, MoCoV2Views)
ADJUST = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def images(count: int, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    """Random images, smooth enough that a crop is not mere noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 5, 5, generator=generator)
    return (torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def torchvision_step(step, image: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    if isinstance(step, RandomGrey):
        return F.rgb_to_grayscale(image, image.shape[0]) if step.chosen(draws) else image
    if isinstance(step, GaussianBlur):
        chosen, sigma = step.parameters(draws)
        return F.gaussian_blur(image, [2 * step.radius + 1] * 2, [float(sigma)] * 2) if chosen else image
    chosen, order, amount = step.parameters(draws)
    for number in order[0].tolist() if chosen else []:
        image = ADJUST[number](image, float(amount[0, number]))
    return image


def torchvision_view(crop, steps, flip_last: bool, image: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """One view, op by op in the order of the paper's code."""
    box = crop.boxes(draws, *image.shape[1:])[0].tolist()
    made = F.resized_crop(image / 255, *box, size=[crop.size] * 2, antialias=True)
    flipped, first = bool(crop.flips(draws)), crop.draws
    made = F.horizontal_flip(made) if flipped and not flip_last else made
    for step in steps:
        made = torchvision_step(step, made, draws[:, first : first + step.draws])
        first += step.draws
    return F.horizontal_flip(made) if flipped and flip_last else made


def recipe_of(name: str, size: int):
    """The papers' steps, written out a second time: views, crop, steps, whether the flip comes last."""
    if name == "simclr":
        steps = (
            ColourJitter(0.8, 0.8, 0.8, 0.2, 0.8),
            RandomGrey(0.2),
            GaussianBlur({96: 4, 32: 1, 8: 0}[size], 0.5),
        )
        return SimCLRViews(size), RandomResizedCrop(size, (0.08, 1.0)), steps, False
    if name == "simclr cifar":
        steps = (ColourJitter(0.4, 0.4, 0.4, 0.1, 0.8), RandomGrey(0.2))
        return SimCLRViews(size, jitter_strength=0.5, blur=0.0), RandomResizedCrop(size, (0.08, 1.0)), steps, False
    if name == "moco v1":
        steps = (RandomGrey(0.2), ColourJitter(0.4, 0.4, 0.4, 0.4, 1.0))
        return MoCoV1Views(size), RandomResizedCrop(size, (0.2, 1.0)), steps, True
    steps = (ColourJitter(0.4, 0.4, 0.4, 0.1, 0.8), RandomGrey(0.2), GaussianBlur({96: 8, 32: 8, 8: 7}[size], 0.5))
    return MoCoV2Views(size), RandomResizedCrop(size, (0.2, 1.0)), steps, True


@pytest.mark.parametrize(
    ("size", "channels", "count"), [(8, 1, 16), (32, 3, 24), (96, 3, 3)], ids=["8px grey", "32px", "96px"]
)
@pytest.mark.parametrize("name", ["simclr", "simclr cifar", "moco v1", "moco v2"])
def test_views_equal_torchvisions_steps_in_the_papers_order(name, size, channels, count):
    views, crop, steps, flip_last = recipe_of(name, size)
    batch, index = images(count, channels, size + 5, size + 9), torch.arange(100, 100 + count)
    made = views(batch, index, epoch=3, seed=7)
    assert len(made) == views.count == 2
    for view in range(2):
        draws = uniform((7, 3, Purpose.VIEW, view), index, crop.draws + sum(step.draws for step in steps))
        expected = [torchvision_view(crop, steps, flip_last, batch[row], draws[row, None]) for row in range(count)]
        torch.testing.assert_close(made[view], torch.stack(expected), rtol=0, atol=3e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_sample_has_the_same_views_alone_and_in_any_batch(recipe):
    views, batch, index = recipe(size=24), images(16), torch.randperm(1000)[:16]
    whole = views(batch, index, 2, 1)
    shuffle = torch.randperm(16)
    for rows in (torch.tensor([5]), torch.tensor([11, 5, 0]), shuffle):
        part = views(batch[rows], index[rows], 2, 1)
        for view in range(2):
            torch.testing.assert_close(part[view], whole[view][rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_views_do_not_depend_on_how_many_are_made_at_a_time(recipe, monkeypatch):
    made, batch, index = recipe(size=24), images(37), torch.arange(50, 87)
    whole, crops = made(batch, index, 2, 1), made.crop(batch, index, 2, 1)
    monkeypatch.setattr(views, "PIECE", 24 * 24 * 5)
    for one, other in zip(whole, made(batch, index, 2, 1), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    for one, other in zip(whole, made.finish(crops, index, 2, 1), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    torch.testing.assert_close(made.finish(crops[:1], index, 2, 1)[0], whole[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_views_are_the_same_to_the_bit_on_any_number_of_threads(recipe, monkeypatch):
    made, batch, index, before = recipe(size=24), images(37), torch.arange(50, 87), torch.get_num_threads()
    monkeypatch.setattr(views, "PIECE", 24 * 24 * 5)
    found = []
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            found.append(torch.stack(made(batch, index, 2, 1)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_views_differ_between_views_samples_epochs_and_seeds():
    recipe, batch = SimCLRViews(size=16), images(1).expand(64, -1, -1, -1)
    first, second = recipe(batch, torch.arange(64), 0, 0)
    others = [
        second,
        first.roll(1, 0),
        recipe(batch, torch.arange(64), 1, 0)[0],
        recipe(batch, torch.arange(64), 0, 1)[0],
        recipe(batch, torch.arange(64) + 64, 0, 0)[0],
    ]
    for other in others:
        assert (first - other).abs().flatten(1).mean(1).gt(1e-3).float().mean() > 0.95


def test_the_two_views_are_drawn_independently():
    index, crop = torch.arange(20_000), RandomResizedCrop(32)
    areas = [
        crop.boxes(uniform((0, 0, Purpose.VIEW, view), index, crop.draws), 99, 99)[:, 2:].prod(1) for view in (0, 1)
    ]
    assert torch.corrcoef(torch.stack(areas).double())[0, 1].abs() < 0.03


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (8, 8, 1), (90, 61, 3)])
def test_a_worker_crops_what_the_batch_crops_up_to_a_grey_level(recipe, height, width, channels):
    views, batch, index = recipe(size=min(height, 32)), images(10, channels, height, width), torch.arange(40, 50)
    crops = views.crop(batch, index, 4, 0)
    sampled = torch.stack([views.crop_sample(batch[row], 40 + row, 4, 0) for row in range(10)])
    assert sampled.dtype == torch.uint8
    for view in range(2):
        away = (sampled[:, view] - crops[view] * 255).abs()  # rounded after the columns and after the rows
        assert away.max() <= 1 + 0.1
        assert away.mean() < 0.35


@pytest.mark.parametrize("recipe", RECIPES)
def test_crops_of_a_worker_are_finished_with_the_draws_of_the_batch(recipe):
    views, batch, index = recipe(size=32), images(12), torch.arange(12)
    direct = views(batch, index, 0, 0)
    sampled = torch.stack([views.crop_sample(batch[row], row, 0, 0) for row in range(12)])
    finished = views.finish(sampled.unbind(1), index, 0, 0)
    for one, other in zip(direct, finished, strict=True):
        assert (one - other).abs().mean() < 2 / 255


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("height", "width", "size", "channels"), [(8, 8, 8, 1), (28, 28, 28, 1), (70, 33, 96, 3)])
def test_views_are_float32_in_unit_range_and_leave_the_images_alone(recipe, height, width, size, channels):
    batch, index = images(20, channels, height, width), torch.arange(20)
    before = batch.clone()
    views = recipe(size=size)
    crops = views.crop(batch, index, 0, 0)
    crops_before = [crop.clone() for crop in crops]
    for view in views.finish(crops, index, 0, 0):
        assert view.shape == (20, channels, size, size)
        assert view.dtype == torch.float32
        assert view.min() >= 0
        assert view.max() <= 1
    assert torch.equal(batch, before)
    assert all(torch.equal(crop, kept) for crop, kept in zip(crops, crops_before, strict=True))


def test_neither_autocast_nor_reduced_precision_reaches_the_views():
    views, batch, index = MoCoV2Views(size=32), images(16), torch.arange(16)
    plain = views(batch, index, 0, 0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu", torch.bfloat16):
            mixed = views(batch, index, 0, 0)
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.conv.fp32_precision = "none"
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(one, other) for one, other in zip(plain, mixed, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_makes_the_views_that_a_cpu_makes(recipe):
    views, batch, index = recipe(size=64), images(64, 3, 90, 70), torch.arange(64)
    torch.backends.cuda.matmul.fp32_precision, before = "tf32", torch.backends.cuda.matmul.fp32_precision
    try:
        there = views(batch.cuda(), index.cuda(), 1, 2)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    for one, other in zip(views(batch, index, 1, 2), there, strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(channels):
    with pytest.raises(InputError, match=f"{channels} channels"):
        SimCLRViews(size=8)(torch.zeros(1, channels, 8, 8, dtype=torch.uint8), torch.tensor([0]), 0, 0)


WRONG = {
    "size": (-3, 0),
    "crop_scale": ((0.0, 1.0), (0.5, 0.2), (0.5, 1.5), (float("nan"), 1.0)),
    "crop_ratio": ((-1.0, 1.0), (2.0, 0.5), (1.0, float("inf"))),
    "flip": (-0.1, 1.1),
    "grey": (1.5,),
}
WRONG_OF = {
    SimCLRViews: {"jitter_strength": (-0.1, 2.6), "jitter": (2.0,), "blur": (-1.0,), "blur_sigma": ((0.0, 1.0),)},
    MoCoV1Views: {"brightness": (-0.1, float("inf")), "contrast": (-1.0,), "saturation": (-1.0,), "hue": (0.6, -0.1)},
    MoCoV2Views: {"hue": (0.6,), "jitter": (-0.5,), "blur": (1.01,), "blur_sigma": ((2.0, 1.0), (0.1, float("inf")))},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_wrong_argument_is_named(recipe):
    for name, values in {**WRONG, **WRONG_OF[recipe]}.items():
        for value in values:
            with pytest.raises(InputError, match=f"^{name} is .*: give") as caught:
                recipe(**{name: value})
            assert "\n" not in str(caught.value)


def test_a_negative_radius_is_named():
    with pytest.raises(InputError, match=r"^radius is -1:"):
        GaussianBlur(radius=-1)


def test_a_configuration_sets_the_arguments():
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--views", type=Views)
    given = {"class_path": "contrast.data.views.SimCLRViews", "init_args": {"size": 32, "crop_scale": [0.2, 1]}}
    views = parser.instantiate(parser.parse_object({"views": given})).views
    assert isinstance(views, SimCLRViews)
    assert views.size == 32
    assert "crop_scale=(0.2, 1.0)" in repr(views)


def test_a_step_of_ones_own_is_called_once_at_a_time_without_autocast(monkeypatch):
    inside, most = [], []

    class Slow(Step):
        draws = 1

        def __call__(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
            inside.append(1)
            time.sleep(0.02)
            most.append((len(inside), torch.is_autocast_enabled("cpu"), threading.get_ident()))
            inside.pop()
            return images + draws[:, :, None, None] / 2

    class SlowViews(Views):
        def __init__(self) -> None:
            super().__init__(RandomResizedCrop(8), (Slow(),))

    monkeypatch.setattr(views, "PIECE", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with torch.autocast("cpu"):
            first, _ = SlowViews()(torch.zeros(12, 3, 8, 8, dtype=torch.uint8), torch.arange(12), 0, 0)
    finally:
        torch.set_num_threads(before)
    assert {(count, autocast) for count, autocast, _ in most} == {(1, False)}
    assert len({thread for *_, thread in most}) > 1
    drawn = uniform((0, 0, Purpose.VIEW, 0), torch.arange(12), RandomResizedCrop.draws + 1)[:, -1]
    torch.testing.assert_close(first, (drawn / 2)[:, None, None, None].expand_as(first))


def test_a_recipe_of_ones_own_is_a_list_of_steps():
    class GreyCrops(Views):
        def __init__(self) -> None:
            super().__init__(RandomResizedCrop(16), (RandomGrey(1.0),))

    first, _ = GreyCrops()(images(4), torch.arange(4), 0, 0)
    assert torch.equal(first[:, 0], first[:, 2])
    with pytest.raises(TypeError, match="abstract"):
        partial(Views, RandomResizedCrop(16), ())()
