"""Colour changes on a CPU, compiled: `contrast.data.views.adjust` for images (b, c, h, w), in place, one by one.

What a run does not need is not compiled: hence functions of their own for one channel.
"""

# Compiled from this text for the types of a call: numba takes no annotations, and mypy knows no function of its.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from typing import no_type_check

import numpy as np

from contrast.data.compiled import compiled

__all__ = ["adjust", "adjust_one", "grey"]

_F = np.float32
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
    """Turn the hue by `shift` turns: the formulas of `contrast.data.views.adjust.adjust_hue`."""
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
