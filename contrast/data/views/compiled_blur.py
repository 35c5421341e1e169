"""Blur on a CPU, compiled."""

# Compiled from this text for the types of a call: numba takes no annotations, and mypy knows no function of its.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from math import ceil, exp
from typing import no_type_check

import numpy as np

from contrast.data.compiled import compiled

__all__ = ["blur"]

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
