"""Random views of time series: jitter, scaling, permutation and crop."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import check_at_least, check_interval, checked
from contrast.data.series.files import at_positions
from contrast.data.views import RandomViews
from contrast.errors import InputError
from contrast.randomness import Purpose, uniform

__all__ = ["Crop", "Jitter", "Permutation", "Scaling", "SeriesStep", "SeriesViews", "normal"]


class SeriesStep(ABC):
    """Base class of one random augmentation of a batch of time series."""

    @abstractmethod
    def draws(self, channels: int, steps: int) -> int:
        """Number of uniform random numbers that the step needs per series."""

    @abstractmethod
    def __call__(self, series: Float[Tensor, "b c t"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c t"]:
        """Change each series by its own row of `draws`, which are uniform in [0, 1)."""


class Jitter(SeriesStep):
    """Gaussian noise on every value: ``x + std · n``, n standard normal.

    Args:
        std: standard deviation of the noise, in deviations of the standardised series; 0 adds nothing.
    """

    @checked
    def __init__(self, std: float) -> None:
        check_at_least("jitter", std, 0)
        self._std = std

    def draws(self, channels: int, steps: int) -> int:
        return _even(channels * steps)

    def __call__(self, series: Float[Tensor, "b c t"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c t"]:
        channels, steps = series.shape[1:]
        return series + self._std * normal(draws)[:, : channels * steps].reshape(-1, channels, steps)


class Scaling(SeriesStep):
    """Random scaling of each channel: ``(1 + std · n) x``, n standard normal; a channel may change its sign.

    Args:
        std: standard deviation of the factors; 0 changes nothing.
    """

    @checked
    def __init__(self, std: float) -> None:
        check_at_least("scaling", std, 0)
        self._std = std

    def draws(self, channels: int, steps: int) -> int:
        return _even(channels)

    def __call__(self, series: Float[Tensor, "b c t"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c t"]:
        return series * (1 + self._std * normal(draws)[:, : series.shape[1], None])


class Permutation(SeriesStep):
    """Random permutation of segments: cut the series at random places and join the segments in a random order.

    Args:
        segments: smallest and largest number of segments, each number equally likely. (1, 1) cuts nothing. A series has
            at most as many segments as steps.
    """

    @checked
    def __init__(self, segments: tuple[int, int]) -> None:
        if len(segments) != 2 or not 1 <= segments[0] <= segments[1]:
            raise InputError(f"segments is {tuple(segments)}: give two numbers from 1 up, the smaller first")
        self._fewest, self._most = segments

    def draws(self, channels: int, steps: int) -> int:
        return 1 + (steps - 1) + self._most

    def __call__(self, series: Float[Tensor, "b c t"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c t"]:
        steps = series.shape[2]
        count, cuts, order = torch.split(draws, [1, steps - 1, self._most], dim=1)
        segments = self._fewest + (count * (self._most - self._fewest + 1)).floor().long()
        # Cut at the positions of the lowest draws; there is one cut fewer than segments.
        is_cut = cuts.argsort(dim=1, stable=True).argsort(dim=1) < segments - 1
        segment = torch.nn.functional.pad(is_cut.long().cumsum(dim=1), (1, 0))
        places = order.gather(1, segment).argsort(dim=1, stable=True)
        return series.gather(2, places[:, None].expand_as(series))


class Crop(SeriesStep):
    """Random crop in time: a random part of the series, stretched to the full length by linear interpolation.

    Args:
        scale: smallest and largest share of the length; (1, 1) leaves the series unchanged.
    """

    @checked
    def __init__(self, scale: tuple[float, float]) -> None:
        check_interval("crop_scale", scale, 1.0)
        self._scale = scale

    def draws(self, channels: int, steps: int) -> int:
        return 2

    def __call__(self, series: Float[Tensor, "b c t"], draws: Float[Tensor, "b n"]) -> Float[Tensor, "b c t"]:
        low, high = self._scale
        last = series.shape[2] - 1
        width = last * (low + (high - low) * draws[:, :1])
        first = (last - width) * draws[:, 1:]
        return at_positions(series, first + width * torch.arange(last + 1, device=series.device) / max(last, 1))


def normal(draws: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Box-Muller transform: standard normal numbers from the same, even, number of uniform numbers in [0, 1).

    ``√(−2 ln(1 − u)) cos(2πv)`` and ``√(−2 ln(1 − u)) sin(2πv)`` for each pair (u, v). As u has 24 bits, the results
    lie within ±5.8.

    Source: Box and Muller, A Note on the Generation of Random Normal Deviates (Annals of Mathematical Statistics 1958).
    """
    radius, angle = draws[:, ::2], draws[:, 1::2]
    radius, angle = (-2 * torch.log1p(-radius)).sqrt(), 2 * math.pi * angle
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


def _even(count: int) -> int:
    return count + count % 2


class SeriesViews(RandomViews):
    """Two random views of a time series: one scaled per channel, the other permuted and jittered, as in DBPM.

    The steps have the order crop, permutation, scaling, jitter. The first view gets crop and scaling; the second view
    gets crop, permutation and jitter. This follows DBPM's code, after TS-TCC's weak and strong view.

    Args:
        scaling: standard deviation of each channel's factor around 1; 0 leaves scaling out.
        segments: smallest and largest number of permuted segments; [1, 1] leaves permutation out.
        jitter: standard deviation of the noise, in deviations of the standardised series; 0 leaves jitter out.
        crop_scale: smallest and largest share of the length that a crop keeps; [1, 1] leaves the crop out.
        symmetric: whether both views get all steps.

    Raises:
        InputError: for an argument outside its range.

    Source: Lan et al., Towards Enhancing Time Series Contrastive Learning: A Dynamic Bad Pair Mining Approach (ICLR
    2024, arXiv 2302.03357); the strengths are those of the authors' code for ECG. Um et al., ICMI 2017, arXiv
    1706.00527, use jitter, scaling and permutation. Eldele et al., IJCAI 2021, arXiv 2106.14112, use two unlike views.
    The crop is ours.

    Example:
        >>> import torch
        >>> first, second = SeriesViews()(torch.randn(4, 3, 50), index=torch.arange(4), epoch=0, seed=0)
        >>> tuple(first.shape), bool((first == second).all())
        ((4, 3, 50), False)
    """

    @checked
    def __init__(
        self,
        scaling: float = 1.1,
        segments: tuple[int, int] = (2, 8),
        jitter: float = 0.8,
        crop_scale: tuple[float, float] = (1.0, 1.0),
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        crop, permutation, scale, noise = Crop(crop_scale), Permutation(segments), Scaling(scaling), Jitter(jitter)
        if symmetric:
            whole = (crop, permutation, scale, noise)
            self._steps: tuple[tuple[SeriesStep, ...], ...] = (whole, whole)
        else:
            self._steps = ((crop, scale), (crop, permutation, noise))

    @checked
    def forward(
        self, samples: Float[Tensor, "b c t"], index: Int[Tensor, " b"], epoch: int, seed: int
    ) -> tuple[Float[Tensor, "b c t"], ...]:
        """The views of a batch of standardised series of one length.

        Args:
            samples: (b, c, t).
            index: index of each series in the training set, (b,).
            epoch: number of the epoch.
            seed: seed of the run.
        """
        return tuple(
            self._view(samples, index, (seed, epoch, Purpose.VIEW, view), steps)
            for view, steps in enumerate(self._steps)
        )

    def _view(self, series: Tensor, index: Tensor, keys: tuple[int, ...], steps: tuple[SeriesStep, ...]) -> Tensor:
        counts = [step.draws(*series.shape[1:]) for step in steps]
        for step, draws in zip(steps, torch.split(uniform(keys, index, sum(counts)), counts, dim=1), strict=True):
            series = step(series, draws)
        return series
