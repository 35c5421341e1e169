from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contrast.data.decode import scale_to_uint8, to_uint8
from contrast.errors import InputError

QUICK = settings(max_examples=25, deadline=None)
RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def over_white(colour: int, alpha: int) -> int:
    return round(Fraction(alpha * colour + (255 - alpha) * 255, 255))


def saved(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def test_an_rgb_image_keeps_its_pixels_and_its_axes():
    expected = torch.tensor(RGB.tolist(), dtype=torch.uint8).permute(2, 0, 1)
    assert expected.shape == (3, 7, 5)
    for image in (Image.fromarray(RGB), RGB, expected):
        assert torch.equal(to_uint8(image, 3), expected)


def test_colour_becomes_grey_by_pillows_luma():
    every = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(every).convert("L"))
    for image in (Image.fromarray(every), every, torch.from_numpy(every).permute(2, 0, 1)):
        assert np.array_equal(to_uint8(image, 1)[0].numpy(), expected)
    exact = (every.astype(float) @ [0.299, 0.587, 0.114]).round()
    assert np.abs(exact - expected).max() <= 1


def test_grey_becomes_colour_by_repeating():
    grey = RGB[:, :, 0]
    for image in (Image.fromarray(grey), grey, grey[:, :, None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        colour = to_uint8(image, 3)
        assert colour.shape == (3, 7, 5)
        assert all(np.array_equal(plane.numpy(), grey) for plane in colour)
        assert np.array_equal(to_uint8(image, 1)[0].numpy(), grey)


@QUICK
@given(st.integers(0, 255), st.integers(0, 255))
def test_alpha_is_laid_over_white(colour: int, alpha: int):
    rgba = np.full((2, 2, 4), colour, dtype=np.uint8)
    rgba[:, :, 3] = alpha
    grey_alpha = rgba[:, :, 2:]
    expected = over_white(colour, alpha)
    for image in (Image.fromarray(rgba), Image.fromarray(grey_alpha)):
        assert to_uint8(image, 3).unique().tolist() == [expected]
        assert to_uint8(image, 1).unique().tolist() == [expected]


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_four_band_arrays_are_not_taken_for_transparent_ones(channels: int):
    array = np.zeros((20, 20, channels), dtype=np.uint8)
    for image in (array, torch.from_numpy(array).permute(2, 0, 1)):
        for wanted in (1, 3):
            with pytest.raises(InputError, match=rf"has {channels} channels: .* keep one or three bands"):
                to_uint8(image, wanted)


def test_a_palette_is_looked_up_and_its_transparent_entry_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    opaque = to_uint8(saved(image, "PNG"), 3)
    clear = to_uint8(saved(image, "PNG", transparency=1), 3)
    clear_gif = to_uint8(saved(image, "GIF", transparency=1), 3)
    half = to_uint8(saved(image, "PNG", transparency=bytes([255, 128])), 3)
    assert opaque[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    assert clear[:, 0].T.tolist() == clear_gif[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]
    assert half[:, 0, 1].tolist() == [over_white(colour, 128) for colour in (200, 100, 50)]


def test_one_transparent_colour_of_grey_and_rgb_files_is_white():
    grey = Image.fromarray(np.array([[7, 8]], dtype=np.uint8))
    assert to_uint8(saved(grey, "PNG", transparency=8), 1).tolist() == [[[7, 255]]]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert to_uint8(saved(rgb, "PNG", transparency=(4, 5, 6)), 3)[:, 0].T.tolist() == [[1, 2, 3], [255, 255, 255]]


def test_one_bit_is_black_and_white():
    image = Image.new("1", (2, 1))
    image.putdata([0, 1])
    assert to_uint8(saved(image, "PNG"), 1).tolist() == [[[0, 255]]]
    assert to_uint8(np.array([[False, True]]), 1).tolist() == [[[0, 255]]]


@QUICK
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=9))
def test_sixteen_bits_are_scaled_not_clipped(values: list[int]):
    wide = np.array([values], dtype=np.uint16)
    expected = [round(Fraction(value, 257)) for value in values]
    forms: list[object] = [wide, wide.astype(">u2"), torch.from_numpy(wide)]
    forms += [saved(Image.fromarray(wide), kind) for kind in ("PNG", "TIFF")]
    forms += [Image.fromarray(wide.astype(np.int32))]
    for image in forms:
        assert to_uint8(image, 1)[0, 0].tolist() == expected


@QUICK
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9))
def test_floats_are_rounded(values: list[float]):
    expected = [round(Fraction(value) * 255) for value in values]
    for image in (np.array([values]), np.array([values], dtype=np.float32), torch.tensor([values])):
        found = to_uint8(image, 1)[0, 0].tolist()
        assert all(
            abs(a - b) <= 1 and (a == b or abs(value * 255 % 1 - 0.5) < 1e-4)
            for a, b, value in zip(found, expected, values, strict=True)
        )


def test_every_8_bit_value_survives_as_float_and_as_integer():
    every = torch.arange(256).reshape(16, 16)
    for image in (every, every.int(), every / 255, (every / 255).double(), every.numpy() / 255):
        assert torch.equal(to_uint8(image, 1)[0].long(), every)
    assert to_uint8((every / 255).bfloat16(), 1).max() == 255


def test_the_rounding_error_of_a_resize_is_no_error():
    assert to_uint8(torch.tensor([[1 + 1e-6, -1e-6]]), 1).tolist() == [[[255, 0]]]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (np.array([[0.5, 1.01]]), "1.01"),
        (np.array([[-0.01, 0.5]]), "-0.01"),
        (np.array([[0.5, np.nan]]), "nan"),
        (np.array([[np.inf, 0.5]]), "inf"),
        (np.array([[0, 300]]), "300"),
        (np.array([[0, -1]]), "-1"),
        (np.array([[70000, 3]], dtype=np.uint32), "70000"),
        (np.array([["a", "b"]]), "<U1"),
        (np.array([[1j, 2]]), "complex128"),
        (np.array([[None, {}]], dtype=object), "object"),
    ],
)
def test_a_value_out_of_range_is_named(values: Any, named: str):
    with pytest.raises(InputError, match=named) as refused:
        scale_to_uint8(values)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=named):
        to_uint8(values, 1)


def test_a_wide_grey_image_out_of_range_is_named():
    for value in (-1, 65536):
        with pytest.raises(InputError, match=f"{value}: wide grey"):
            to_uint8(Image.fromarray(np.array([[0, value]], dtype=np.int32)), 1)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_a_mode_without_a_range_is_refused(mode: str):
    with pytest.raises(InputError, match=f"PIL mode {mode}"):
        to_uint8(Image.new(mode, (2, 2)), 3)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_colour_spaces_become_rgb(mode: str):
    image = Image.fromarray(RGB).convert(mode)
    expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(to_uint8(image, 3), expected)
    assert (expected.int() - torch.from_numpy(RGB).permute(2, 0, 1).int()).abs().max() <= 12


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (np.zeros((3, 4, 5), np.uint8), r"\(3, 4, 5\).*channels-first array must be a tensor"),
        (torch.zeros(6, 5, 3), r"\(6, 5, 3\).*channels-last tensor must be an array"),
        (np.zeros((4,), np.uint8), r"\(4,\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4, 1\)"),
        (torch.zeros(1, 3, 4, 4), r"\(1, 3, 4, 4\)"),
        (torch.zeros(5, 4, 6), r"\(5, 4, 6\)"),
        (torch.zeros(3, 0, 6), r"\(3, 0, 6\)"),
        ("cat.png", "type str"),
        (None, "type NoneType"),
    ],
)
def test_what_is_no_image_is_refused(image: object, named: str):
    with pytest.raises(InputError, match=named):
        to_uint8(image, 3)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(InputError, match="channels 2"):
        to_uint8(RGB, 2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(kind: str, orientation: int):
    # One dark corner tells all eight apart; where each orientation puts the first stored row and column, by EXIF 2.3.
    stored = np.full((16, 24), 250, dtype=np.uint8)
    stored[:8, :8] = 5
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.T, 6: stored.T[:, ::-1], 7: stored.T[::-1, ::-1], 8: stored.T[::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    image = saved(Image.fromarray(stored), kind, exif=exif, **options)
    found = to_uint8(image, 1)[0].numpy()
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= 12


def test_of_several_frames_the_first_is_taken():
    frames = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8)) for value in (10, 200)]
    for kind in ("GIF", "TIFF"):
        image = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert to_uint8(image, 1).unique().tolist() == [10]


def test_a_lazy_image_is_read_in_the_mode_that_it_turns_out_to_have():
    image = Image.new("P", (16, 16))
    image.putpalette([10, 20, 30])
    lazy = saved(image, "ICNS")
    assert lazy.mode == "RGBA"
    assert to_uint8(lazy, 3)[:, 0, 0].tolist() == [10, 20, 30]


def test_the_result_is_writable_and_owns_its_memory():
    for image in (Image.fromarray(RGB[:, :, 0]), RGB.copy(), torch.zeros(1, 4, 4, dtype=torch.uint8)):
        for channels in (1, 3):
            before = to_uint8(image, channels).clone()
            to_uint8(image, channels).fill_(99)
            assert torch.equal(to_uint8(image, channels), before)


def test_an_image_with_a_gradient_or_a_flipped_view_is_read():
    assert to_uint8(torch.ones(3, 2, 2, requires_grad=True), 3).unique().tolist() == [255]
    assert np.array_equal(to_uint8(RGB[::-1, ::-1], 3).numpy(), RGB[::-1, ::-1].transpose(2, 0, 1))
