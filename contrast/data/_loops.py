"""Compiled CPU loops (numba) for image views and standardisation.

In torch, one step of a view is about twenty operations, and each of them goes through main memory. Compiled, a step is
one vectorised loop, and an image stays in the cache from the crop to the last step.

Code that a run does not need is not compiled: this is why images of one channel have their own functions.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import ceil, exp, floor, sqrt
from typing import Any, no_type_check

import numba
import numpy as np
import torch

__all__ = [
    "PIECE",
    "adjust",
    "adjust_one",
    "blur",
    "boxes",
    "by_pieces",
    "compiled",
    "grey",
    "resize",
    "standardise",
    "standardise_colours",
]

PIECE = 2**15
"""Number of pixels that a thread processes at a time; small enough for the thread's cache in all steps."""

# Vector instructions need reordered sums and fused multiply-adds. NaN and infinity keep their meaning.
_FLOATS = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by numba for the types of each call, without the GIL; the result is cached on disk."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _FLOATS, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache folder is writable
        made = numba.njit(**options)(function)
    return made  # type: ignore[no-any-return]  # numba has no types


def by_pieces(count: int, rows: int, work: Callable[[slice], None]) -> None:
    """Call ``work(piece)`` for slices of `rows` out of `count` rows, on as many threads as torch uses for an operation.

    Each thread, including the calling thread, takes the next slice when it has finished one. If a core is still busy
    with a spinning torch thread after an operation, the other threads take over its share.

    Args:
        count: number of rows.
        rows: largest number of rows per slice.
        work: function of a slice; it must be safe to call from several threads.
    """
    pieces = iter([slice(first, min(first + rows, count)) for first in range(0, count, rows)])

    def take() -> None:
        for piece in pieces:
            work(piece)

    helpers = min(torch.get_num_threads(), -(-count // rows)) - 1
    taken = [_threads(os.getpid(), helpers).submit(take) for _ in range(helpers)]
    take()
    for helper in taken:
        if not helper.cancel():  # the helper has started
            helper.result()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Thread pool of this process; a forked process needs its own, because threads do not survive a fork."""
    return ThreadPoolExecutor(count)


# numba infers the types from each call and rejects annotations, so mypy cannot check the functions below.


@compiled
@no_type_check
def standardise(images, mean, std, out):
    """Standardise images into channels-last order: ``out[b, y, x, c] = (images[b, c, y, x] − mean[c]) / std[c]``."""
    for i in range(len(images)):
        for channel in range(images.shape[1]):
            _channel(images[i, channel], mean[channel], std[channel], out[i, :, :, channel])


@compiled
@no_type_check
def standardise_colours(images, mean, std, out):
    """`standardise` for three channels in one loop, so that memory is written contiguously."""
    for i in range(len(images)):
        _colours(images[i], mean[0], mean[1], mean[2], std[0], std[1], std[2], out[i])


@compiled
@no_type_check
def _channel(plane, mean, std, out):
    for y in range(len(plane)):
        row, result = plane[y], out[y]
        for x in range(len(row)):
            result[x] = (row[x] - mean) / std


@compiled
@no_type_check
def _colours(image, red_mean, green_mean, blue_mean, red_std, green_std, blue_std, out):
    # Means and deviations are scalars: the compiler would read an array again for every pixel, as `out` might alias it.
    for y in range(image.shape[1]):
        red, green, blue, row = image[0, y], image[1, y], image[2, y], out[y]
        for x in range(len(row)):
            row[x, 0] = (red[x] - red_mean) / red_std
            row[x, 1] = (green[x] - green_mean) / green_std
            row[x, 2] = (blue[x] - blue_mean) / blue_std


_F = np.float32
_ZERO, _ONE = _F(0), _F(1)


@compiled
@no_type_check
def boxes(draws, tries, height, width, scale, log_ratio, central):
    """Crop boxes as top, left, height and width: the first try that fits in the image, else the `central` box.

    Args:
        draws: uniform in [0, 1), (b, n): areas and ratios of all tries, then top and left.
        tries: number of tries.
        height: height of the images in pixels.
        width: width of the images in pixels.
        scale: smallest and largest share of the image's area.
        log_ratio: logarithms of the smallest and largest width / height.
        central: height and width of the box if no try fits.
    """
    found = np.empty((len(draws), 4), np.int64)
    for i in range(len(draws)):
        of_image, box = draws[i], found[i]
        box[0], box[1] = (height - central[0]) // 2, (width - central[1]) // 2
        box[2], box[3] = central[0], central[1]
        for number in range(tries):
            area = height * width * (scale[0] + (scale[1] - scale[0]) * of_image[number])
            ratio = exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * of_image[tries + number])
            high, wide = np.rint(sqrt(area / ratio)), np.rint(sqrt(area * ratio))
            if 0 < high <= height and 0 < wide <= width:
                above, before = height - high, width - wide
                box[0] = min(floor(of_image[2 * tries] * (above + 1)), above)
                box[1] = min(floor(of_image[2 * tries + 1] * (before + 1)), before)
                box[2], box[3] = high, wide
                break
    return found


@compiled
@no_type_check
def resize(images, first, boxes, flip, unit, out):
    """Resize each image from its own box to a square, bilinear with antialiasing: along the rows, then the columns.

    Args:
        images: (k, c, h, w), uint8 or float.
        first: number of the first result. ``out[i]`` comes from the image ``(first + i) mod k``.
        boxes: top, left, height and width of each box in pixels, (b, 4).
        flip: which results are mirrored left to right, (b,).
        unit: pixel value that becomes 1.
        out: (b, c, size, size) float32, overwritten.
    """
    # One function body: in separate functions the compiler knows less about aliasing, and takes a third longer.
    size, upright = out.shape[2], np.bool_(False)
    for i in range(len(out)):
        top, left, height, width = boxes[i]
        above, rows = _triangles(height, size, upright)
        before, columns = _triangles(width, size, flip[i])
        # Zeros beyond the end of a box, where the weights are zero too.
        line = np.zeros(width + len(columns), np.float32)
        narrow = np.zeros((height + len(rows), size), np.float32)
        for channel in range(out.shape[1]):
            plane = images[(first + i) % len(images), channel]
            for y in range(height):
                row, result = plane[top + y], narrow[y]
                for x in range(width):
                    line[x] = _F(row[left + x])
                one, two = columns[0], columns[1]
                for x in range(size):
                    result[x] = one[x] * line[before[x]] + two[x] * line[before[x] + 1]
                for tap in range(2, len(columns)):
                    one = columns[tap]
                    for x in range(size):
                        result[x] += one[x] * line[before[x] + tap]
            for y in range(size):
                result = out[i, channel, y]
                share, other = _F(rows[0, y] / unit), _F(rows[1, y] / unit)
                row, under = narrow[above[y]], narrow[above[y] + 1]
                for x in range(size):
                    result[x] = share * row[x] + other * under[x]
                for tap in range(2, len(rows)):
                    share, row = _F(rows[tap, y] / unit), narrow[above[y] + tap]
                    for x in range(size):
                        result[x] += share * row[x]
                for x in range(size):
                    result[x] = min(max(result[x], _ZERO), _ONE)


@compiled
@no_type_check
def _triangles(length, size, mirrored):
    """Triangle filter: for each of `size` results its first pixel, and the weights (taps, size) from that pixel on."""
    pitch = length / size
    reach = max(pitch, 1.0)
    taps = ceil(2 * reach)
    start, weights = np.empty(size, np.int64), np.zeros((taps, size), np.float32)
    for place in range(size):
        centre = pitch * ((size - 1 - place if mirrored else place) + 0.5)
        low, total = max(0, floor(centre - reach + 0.5)), 0.0
        start[place] = low
        for turn in range(2):  # first the sum of the weights, then the normalised weights
            for tap in range(min(taps, length - low)):
                weight = max(0.0, 1 - abs(low + tap + 0.5 - centre) / reach)
                if turn:
                    weights[tap, place] = weight / total
                else:
                    total += weight
    return start, weights


_RED, _GREEN, _BLUE = _F(0.2989), _F(0.587), _F(0.114)


@compiled
@no_type_check
def adjust(images, chosen, order, amount):
    """Colour jitter in place: brightness (0), contrast (1), saturation (2) and hue (3), by `amount` and in `order`.

    Args:
        images: (b, 3, h, w), float32 in [0, 1].
        chosen: which images are changed, (b,).
        order: numbers of the adjustments, the first applied first, (b, 4).
        amount: factor or shift of each adjustment, by its number, (b, 4).
    """
    for i in range(len(images)):
        if chosen[i]:
            for number in order[i]:
                if number < 3:
                    _blend(images[i], amount[i, number], number)
                else:
                    _turn(images[i], amount[i, number])


@compiled
@no_type_check
def adjust_one(images, chosen, order, amount):
    """`adjust` for a single channel, which is its own luminance: only brightness and contrast change it."""
    for i in range(len(images)):
        if chosen[i]:
            for number in order[i]:
                if number < 2:
                    _blend_one(images[i, 0], amount[i, number], number == 1)


@compiled
@no_type_check
def _blend(image, factor, number):
    """``factor · image + (1 - factor) · other``; other is black (0), the mean luminance (1) or the luminance (2)."""
    other = _ZERO
    if number == 1:
        total = 0.0
        for y in range(image.shape[1]):
            red, green, blue = image[0, y], image[1, y], image[2, y]
            of_row = _ZERO
            for x in range(image.shape[2]):
                of_row += _RED * red[x] + _GREEN * green[x] + _BLUE * blue[x]
            total += of_row
        other = (_ONE - factor) * _F(total / (image.shape[1] * image.shape[2]))
    share = _ONE - factor if number == 2 else _ZERO
    for y in range(image.shape[1]):
        red, green, blue = image[0, y], image[1, y], image[2, y]
        for x in range(image.shape[2]):
            rest = share * (_RED * red[x] + _GREEN * green[x] + _BLUE * blue[x]) + other
            red[x] = min(max(factor * red[x] + rest, _ZERO), _ONE)
            green[x] = min(max(factor * green[x] + rest, _ZERO), _ONE)
            blue[x] = min(max(factor * blue[x] + rest, _ZERO), _ONE)


@compiled
@no_type_check
def _blend_one(image, factor, by_mean):
    """`_blend` for a single channel, with black or with the mean."""
    other = _ZERO
    if by_mean:
        total = 0.0
        for row in image:
            of_row = _ZERO
            for value in row:
                of_row += value
            total += of_row
        other = (_ONE - factor) * _F(total / image.size)
    for row in image:
        for x in range(len(row)):
            row[x] = min(max(factor * row[x] + other, _ZERO), _ONE)


@compiled
@no_type_check
def _turn(image, shift):
    """Rotate the hue by `shift` turns, by the formulas of `contrast.data.views.colour.adjust_hue`."""
    turn = _F(6) * shift
    for y in range(image.shape[1]):
        reds, greens, blues = image[0, y], image[1, y], image[2, y]
        for x in range(image.shape[2]):
            red, green, blue = reds[x], greens[x], blues[x]
            value, least = max(max(red, green), blue), min(min(red, green), blue)
            chroma = value - least
            by_chroma = _ONE / max(chroma, _F(1e-12))
            across, below = abs(green - blue) * by_chroma, (value - red) * by_chroma
            amount = across + below * (_F(3) - _F(2) * across)
            hue = (amount if green >= blue else -amount) + turn
            hue = hue - _F(6) if hue > _F(3) else hue
            hue = hue + _F(6) if hue < _F(-3) else hue
            reds[x] = min(max(value - chroma * min(max(abs(hue) - _ONE, _ZERO), _ONE), _ZERO), _ONE)
            greens[x] = min(max(least + chroma * min(max(abs(hue + _ONE) - _ONE, _ZERO), _ONE), _ZERO), _ONE)
            blues[x] = min(max(least + chroma * min(max(abs(hue - _ONE) - _ONE, _ZERO), _ONE), _ZERO), _ONE)


@compiled
@no_type_check
def grey(images, chosen):
    """Grayscale in place: the luminance in all three channels of the chosen images."""
    for i in range(len(images)):
        if chosen[i]:
            for y in range(images.shape[2]):
                red, green, blue = images[i, 0, y], images[i, 1, y], images[i, 2, y]
                for x in range(images.shape[3]):
                    luminance = _RED * red[x] + _GREEN * green[x] + _BLUE * blue[x]
                    red[x] = luminance
                    green[x] = luminance
                    blue[x] = luminance


@compiled
@no_type_check
def blur(images, chosen, sigma, radius):
    """Gaussian blur in place, with a deviation of `sigma` pixels, cut off at `radius`; borders are reflected."""
    height, width = images.shape[2:]
    wide, blurred = np.empty(width + 2 * radius, np.float32), np.empty((height, width), np.float32)
    middle = wide[radius : radius + width]
    for i in range(len(images)):
        if not chosen[i]:
            continue
        weights = _bell(sigma[i], radius)
        own = weights[0]
        for channel in range(images.shape[1]):
            image = images[i, channel]
            for y in range(height):
                row = image[y]
                for x in range(width):
                    middle[x] = own * row[x]
                for away in range(1, len(weights)):
                    weight = weights[away]
                    above, under = image[abs(y - away)], image[height - 1 - abs(height - 1 - y - away)]
                    for x in range(width):
                        middle[x] += weight * (above[x] + under[x])
                for away in range(1, len(weights)):
                    wide[radius - away] = middle[away]
                    wide[radius + width - 1 + away] = middle[width - 1 - away]
                result = blurred[y]
                for x in range(width):
                    result[x] = own * middle[x]
                for away in range(1, len(weights)):
                    weight = weights[away]
                    before, after = wide[radius - away :], wide[radius + away :]
                    for x in range(width):
                        result[x] += weight * (before[x] + after[x])
            for y in range(height):
                row, result = image[y], blurred[y]
                for x in range(width):
                    row[x] = min(max(result[x], _ZERO), _ONE)


@compiled
@no_type_check
def _bell(sigma, radius):
    """Kernel ``exp(-t² / 2σ²)`` for t from 0 up, normalised over both sides, without the negligible tail."""
    reach = min(radius, ceil(7.5 * sigma))  # farther weights are below 1e-12
    weights = np.empty(reach + 1, np.float32)
    total = -1.0
    for away in range(reach + 1):
        total += 2 * exp(-0.5 * (away / sigma) ** 2)
    for away in range(reach + 1):
        weights[away] = exp(-0.5 * (away / sigma) ** 2) / total
    return weights
