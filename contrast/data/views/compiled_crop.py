"""Boxes and crops on a CPU, compiled."""

# Compiled from this text for the types of a call: numba takes no annotations, and mypy knows no function of its.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from math import ceil, exp, floor, sqrt
from typing import no_type_check

import numpy as np

from contrast.data.compiled import compiled

__all__ = ["boxes", "resize"]

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
