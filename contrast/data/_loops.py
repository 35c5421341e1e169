"""Compiled loops (numba) for image views and standardisation on a CPU.

A step of a view in torch is some twenty operations, each of which goes through memory; compiled, it is one loop that
the processor does several pixels at a time, and an image stays in the cache from the crop to the last step.

What a run does not need is not compiled: hence functions of their own for one channel.
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
"""Pixels of images that a thread takes at a time: few enough to stay in its cache from step to step."""

# Sums may be reordered and products fused with sums, which vector instructions need. NaN and infinity keep their sense.
_FLOATS = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for the types it is called with, to run without Python's lock; kept on the disk for the next process."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _FLOATS, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written to
        made = numba.njit(**options)(function)
    return made  # type: ignore[no-any-return]  # numba has no types


def by_pieces(count: int, rows: int, work: Callable[[slice], None]) -> None:
    """``work(piece)`` for every `rows` of `count` rows, on as many threads as torch takes for an operation.

    Each thread, this one too, takes the next piece when it is done with one: where torch's own threads still spin after
    an operation, another one of these does the work.
    """
    pieces = iter([slice(first, min(first + rows, count)) for first in range(0, count, rows)])

    def take() -> None:
        for piece in pieces:
            work(piece)

    helpers = min(torch.get_num_threads(), -(-count // rows)) - 1
    taken = [_threads(os.getpid(), helpers).submit(take) for _ in range(helpers)]
    take()
    for helper in taken:
        if not helper.cancel():  # it has begun
            helper.result()


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    """Of this process: one that was forked from another has none of its threads."""
    return ThreadPoolExecutor(count)


# numba infers the types from each call and rejects annotations, so mypy cannot check the functions below.


@compiled
@no_type_check
def standardise(images, mean, std, out):
    """``out[b, y, x, c] = (images[b, c, y, x] − mean[c]) / std[c]``."""
    for i in range(len(images)):
        for channel in range(images.shape[1]):
            _channel(images[i, channel], mean[channel], std[channel], out[i, :, :, channel])


@compiled
@no_type_check
def standardise_colours(images, mean, std, out):
    """The same of three channels at once, so that what is stored lies together."""
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
    # Numbers of their own: an array of them could be what is written to, and would be read again for every pixel.
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
    """Top, left, height and width of each box: the first try that fits in the image, else the `central` one."""
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
    """Resize to a square, each image from its own box, bilinear with antialiasing: along its rows, then down them.

    ``out[i]`` is of the image ``first + i``, counted round and round; `unit` is the value that stands for 1.
    """
    # One body: what is compiled apart knows less of which arrays can overlap, and takes a third longer.
    size, upright = out.shape[2], np.bool_(False)
    for i in range(len(out)):
        top, left, height, width = boxes[i]
        above, rows = _triangles(height, size, upright)
        before, columns = _triangles(width, size, flip[i])
        # Beyond a box's end are zeros, where a weight is zero too.
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
    """Of each of `size` results its first pixel and the weights (taps, size) of that and of those after it."""
    pitch = length / size
    reach = max(pitch, 1.0)
    taps = ceil(2 * reach)
    start, weights = np.empty(size, np.int64), np.zeros((taps, size), np.float32)
    for place in range(size):
        centre = pitch * ((size - 1 - place if mirrored else place) + 0.5)
        low, total = max(0, floor(centre - reach + 0.5)), 0.0
        start[place] = low
        for turn in range(2):  # their sum, then their shares of it
            for tap in range(min(taps, length - low)):
                weight = max(0.0, 1 - abs(low + tap + 0.5 - centre) / reach)
                if turn:
                    weights[tap, place] = weight / total
                else:
                    total += weight
    return start, weights


_ZERO, _ONE = _F(0), _F(1)
_RED, _GREEN, _BLUE = _F(0.2989), _F(0.587), _F(0.114)


@compiled
@no_type_check
def adjust(images, chosen, order, amount):
    """Brightness (0), contrast (1), saturation (2) and hue (3) by the amounts (b, 4), in the order (b, 4)."""
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
    """The same of a single channel, which is its own luminance: brightness and contrast alone change it."""
    for i in range(len(images)):
        if chosen[i]:
            for number in order[i]:
                if number < 2:
                    _blend_one(images[i, 0], amount[i, number], number == 1)


@compiled
@no_type_check
def _blend(image, factor, number):
    """``factor · image + (1 - factor) · other``, the other being black, the mean luminance or the luminance."""
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
    """Likewise of a single channel."""
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
    """Turn the hue by `shift` turns: the formulas of `contrast.data.views.colour.adjust_hue`."""
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
    """The luminance in all three channels."""
    for i in range(len(images)):
        if chosen[i]:
            for y in range(images.shape[2]):
                red, green, blue = images[i, 0, y], images[i, 1, y], images[i, 2, y]
                for x in range(images.shape[3]):
                    luminance = _RED * red[x] + _GREEN * green[x] + _BLUE * blue[x]
                    red[x] = luminance
                    green[x] = luminance
                    blue[x] = luminance


_ZERO, _ONE = np.float32(0), np.float32(1)


@compiled
@no_type_check
def blur(images, chosen, sigma, radius):
    """Convolve with a Gaussian of `sigma` pixels, cut off at `radius`; borders are reflected."""
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
    """``exp(-t² / 2σ²)`` for t from 0 on, over its sum on both sides; only as far as a weight counts for anything."""
    reach = min(radius, ceil(7.5 * sigma))  # beyond that it is below 1e-12
    weights = np.empty(reach + 1, np.float32)
    total = -1.0
    for away in range(reach + 1):
        total += 2 * exp(-0.5 * (away / sigma) ** 2)
    for away in range(reach + 1):
        weights[away] = exp(-0.5 * (away / sigma) ** 2) / total
    return weights
