"""The resize is torchvision's antialiased one for given boxes; the boxes are distributed as torchvision draws them."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from contrast.data import _loops as compiled_crop
from contrast.data.views.crop import RandomResizedCrop, resize_boxes, to_float
from contrast.randomness import uniform

SAMPLES = 20_000


def draws(count: int = SAMPLES, seed: int = 0) -> torch.Tensor:
    return uniform((seed, 2), torch.arange(count), RandomResizedCrop.draws)


def random_boxes(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)

    def whole(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        return low + (torch.rand(count, generator=generator) * (high - low + 1)).long()

    one = torch.ones(count, dtype=torch.int64)
    heights, widths = whole(one, one * height), whole(one, one * width)
    return torch.stack((whole(0 * one, height - heights), whole(0 * one, width - widths), heights, widths), 1)


def by_products(images: torch.Tensor, boxes: torch.Tensor, flip: torch.Tensor, size: int) -> torch.Tensor:
    return resize_boxes(images, boxes, flip, size)


def compiled(images: torch.Tensor, boxes: torch.Tensor, flip: torch.Tensor, size: int) -> torch.Tensor:
    made, unit = torch.empty(*images.shape[:2], size, size), 1 if images.is_floating_point() else 255
    compiled_crop.resize(images.numpy(), 0, boxes.numpy(), flip.numpy(), unit, made.numpy())
    return made


RESIZE = pytest.mark.parametrize("resize", [by_products, compiled])


@RESIZE
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 8, 8), (28, 28, 28), (32, 32, 32), (96, 70, 64), (300, 403, 224), (20, 500, 32)]
)
def test_every_box_is_resized_as_torchvision_resizes_it(height, width, size, channels, layout, kind, resize):
    count = 6
    images = torch.rand(count, channels, height, width)
    images = (images * 255 if kind == torch.uint8 else images).to(kind).contiguous(memory_format=layout)
    boxes = random_boxes(count, height, width)
    boxes[0] = torch.tensor([0, 0, height, width])
    boxes[1] = torch.tensor([height - 1, width - 1, 1, 1])
    flip = torch.arange(count) % 2 == 1
    expected = []
    for image, box, mirrored in zip(to_float(images), boxes.tolist(), flip.tolist(), strict=True):
        resized = F.resized_crop(image, *box, size=[size, size], antialias=True)
        expected.append(F.horizontal_flip(resized) if mirrored else resized)
    # torchvision's own places and weights are float32: in large images the furthest pixels are 2e-5 off.
    atol = 1e-5 if max(height, width) < 300 else 3e-5
    torch.testing.assert_close(resize(images, boxes, flip, size), torch.stack(expected), rtol=0, atol=atol)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_sample_is_cropped_as_pillow_crops(layout):
    images = torch.randint(0, 256, (12, 3, 90, 130), dtype=torch.uint8).contiguous(memory_format=layout)
    crop, numbers = RandomResizedCrop(70), draws(12)
    boxes, flip = crop.boxes(numbers, 90, 130), crop.flips(numbers)
    for row, ((top, left, height, width), mirrored) in enumerate(zip(boxes.tolist(), flip, strict=True)):
        picture = Image.fromarray(images[row].permute(1, 2, 0).numpy()).crop((left, top, left + width, top + height))
        expected = F.pil_to_tensor(picture.resize((70, 70), Image.Resampling.BILINEAR)).int()
        made = crop.sample(images[row], numbers[row : row + 1])[0].int()
        away = (made - (expected.flip(2) if mirrored else expected)).abs()
        # Of noise; both round twice, by weights of different precision. Of 3,000 boxes the worst had 27 % and 0.014 %.
        assert away.max() <= 2
        assert (away > 0).float().mean() < 0.35
        assert (away > 1).float().mean() < 0.001


def test_images_follow_each_other_over_and_over():
    images, numbers, crop = torch.rand(3, 3, 12, 15), draws(7), RandomResizedCrop(8)
    made = torch.zeros(7, 3, 8, 8)
    change = crop.on_cpu(images, numbers)
    for rows in (slice(0, 5), slice(5, 7)):
        change(made.numpy()[rows], rows)
    assert torch.equal(made, crop(images[torch.arange(7) % 3], numbers))


@RESIZE
def test_white_stays_white_and_no_whiter(resize):
    count, flip = 200, torch.zeros(200, dtype=torch.bool)
    made = resize(torch.full((count, 1, 60, 50), 255, dtype=torch.uint8), random_boxes(count, 60, 50), flip, 40)
    assert made.max() == 1
    assert made.min() > 1 - 1e-6


@RESIZE
def test_pixels_outside_the_box_are_not_looked_at(resize):
    images = torch.rand(1, 3, 40, 40)
    changed = images.clone()
    changed[:, :, :10] = changed[:, :, :, 25:] = 1
    box, flip = torch.tensor([[10, 5, 30, 20]]), torch.tensor([False])
    assert torch.equal(resize(images, box, flip, 16), resize(changed, box, flip, 16))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (200, 300), (300, 40), (7, 100)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.005, 0.02), (0.7, 1.0)])
def test_boxes_compiled_for_a_cpu_are_those_in_torch(scale, height, width):
    crop, numbers = RandomResizedCrop(32, crop_scale=scale), draws()
    assert torch.equal(crop.boxes(numbers, height, width), crop._boxes(numbers, height, width))


@pytest.mark.parametrize(("height", "width"), [(200, 300), (300, 120)])
def test_boxes_are_distributed_as_torchvision_draws_them(height, width):
    crop = RandomResizedCrop(32)
    ours = crop.boxes(draws(), height, width).double()
    torch.manual_seed(0)
    reference = v2.RandomResizedCrop(32)
    empty = [torch.empty(3, height, width)]
    drawn = [reference.make_params(empty) for _ in range(4_000)]
    theirs = torch.tensor([[one[key] for key in ("top", "left", "height", "width")] for one in drawn]).double()
    for of in (area, log_ratio, centre_row, centre_column):
        assert stats.ks_2samp(of(ours), of(theirs)).pvalue > 1e-3, of.__name__


def area(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 2] * boxes[:, 3]


def log_ratio(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 3] / boxes[:, 2]).log()


def centre_row(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 0] + boxes[:, 2] / 2


def centre_column(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 1] + boxes[:, 3] / 2


def test_boxes_of_tiny_images_are_distributed_as_torchvision_draws_them():
    ours = RandomResizedCrop(8).boxes(draws(), 8, 8).tolist()
    torch.manual_seed(0)
    reference, empty = v2.RandomResizedCrop(8), [torch.empty(1, 8, 8)]
    theirs = [list(reference.make_params(empty).values()) for _ in range(4_000)]
    shapes = sorted({(box[2], box[3]) for box in ours + theirs})
    table = [[sum((b[2], b[3]) == shape for b in boxes) for shape in shapes] for boxes in (ours, theirs)]
    common = [column for column in zip(*table, strict=True) if sum(column) >= 40]
    assert len(common) > 20
    assert stats.chi2_contingency(list(zip(*common, strict=True))).pvalue > 1e-3


def test_without_rejection_area_ratio_and_place_are_uniform():
    side = 100_000
    boxes = RandomResizedCrop(32, crop_scale=(0.1, 0.5), crop_ratio=(0.5, 1.5)).boxes(draws(), side, side).double()
    top, left, height, width = boxes.unbind(1)
    low, high = torch.tensor([0.5, 1.5]).double().log().tolist()
    for values, start, stop in (
        (area(boxes) / side**2, 0.1, 0.5),
        (log_ratio(boxes), low, high),
        (top / (side - height), 0, 1),
        (left / (side - width), 0, 1),
    ):
        assert stats.kstest(values, "uniform", args=(start, stop - start)).pvalue > 1e-3


def test_no_two_draws_of_the_crop_are_tied_to_each_other():
    side = 100_000
    crop = RandomResizedCrop(32, crop_scale=(0.1, 0.5), crop_ratio=(0.5, 1.5))
    boxes = crop.boxes(draws(), side, side).double()
    top, left = boxes[:, 0] / (side - boxes[:, 2]), boxes[:, 1] / (side - boxes[:, 3])
    table = torch.stack((area(boxes), log_ratio(boxes), top, left, crop.flips(draws()).double()))
    assert (torch.corrcoef(table) - torch.eye(5)).abs().max() < 0.03


def test_every_place_is_reached():
    boxes = RandomResizedCrop(8, crop_scale=(0.25, 0.25), crop_ratio=(1.0, 1.0)).boxes(draws(2_000), 10, 12)
    assert set(boxes[:, 2].tolist()) == {5}
    assert set(boxes[:, 0].tolist()) == set(range(6))
    assert set(boxes[:, 1].tolist()) == set(range(8))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(8, 400, [0, 194, 8, 11]), (400, 9, [194, 0, 12, 9]), (7, 100, [0, 45, 7, 9])],
)
def test_where_no_try_fits_the_central_box_is_taken(height, width, expected):
    boxes = RandomResizedCrop(32, crop_scale=(0.5, 1.0)).boxes(draws(50), height, width)
    assert boxes.tolist() == [expected] * 50


def test_a_box_has_at_least_one_pixel():
    never = RandomResizedCrop(8, crop_scale=(0.005, 0.01)).boxes(draws(50), 4, 4)
    assert never.tolist() == [[0, 0, 4, 4]] * 50
    seldom = RandomResizedCrop(8, crop_scale=(0.01, 0.03)).boxes(draws(200), 4, 4)
    assert seldom[:, 2:].min() == 1


def test_where_the_whole_image_has_a_fitting_ratio_it_is_the_fallback():
    boxes = RandomResizedCrop(32, crop_scale=(1.0, 1.0), crop_ratio=(0.5, 2.0)).boxes(draws(500), 30, 40)
    tries_that_fit = (boxes[:, 2] * boxes[:, 3] - 1200).abs() <= 40
    assert bool(tries_that_fit.all())
    assert [0, 0, 30, 40] in boxes.tolist()


def test_flips_happen_with_their_probability():
    flipped = RandomResizedCrop(32, flip=0.3).flips(draws())
    assert stats.binomtest(int(flipped.sum()), SAMPLES, 0.3).pvalue > 1e-3


def test_a_sample_alone_is_cropped_as_in_the_batch():
    images = torch.randint(0, 256, (12, 3, 50, 70), dtype=torch.uint8)
    crop, numbers = RandomResizedCrop(24), draws(12)
    alone = [crop.sample(images[row], numbers[row : row + 1])[0] for row in range(12)]
    away = (crop(images / 255, numbers) * 255 - torch.stack(alone)).abs()  # of noise; rounded twice
    assert away.max() <= 1.1
    assert away.mean() < 0.35
