"""Standardising on a CPU, compiled: one pass from planes to the layout that convolutions prefer."""

# Compiled from this text for the types of a call: numba takes no annotations, and mypy knows no function of its.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from typing import no_type_check

from contrast.data.compiled import compiled

__all__ = ["standardise", "standardise_colours"]


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
