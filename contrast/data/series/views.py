"""Random views of series."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.arguments import checked
from contrast.data.series.steps import Crop, Jitter, Permutation, Scaling, SeriesStep
from contrast.data.views import RandomViews
from contrast.randomness import Purpose, uniform

__all__ = ["SeriesViews"]


class SeriesViews(RandomViews):
    """Two views of a series: one scaled channel by channel, the other permuted and jittered; crops first, if asked for.

    Which view gets what is DBPM's code, after TS-TCC's weak and strong view. Steps come in the order crop,
    permutation, scaling, jitter.

    Args:
        scaling: deviation of each channel's factor around 1; 0 leaves it out.
        segments: smallest and largest number of segments that are permuted; [1, 1] leaves it out.
        jitter: deviation of the noise, in deviations of the standardised series; 0 leaves it out.
        crop_scale: smallest and largest share of the length that a crop keeps; [1, 1] leaves it out.
        symmetric: whether both views get all of it.

    Raises:
        InputError: an argument outside its range.

    Source: Lan et al., Towards Enhancing Time Series Contrastive Learning: A Dynamic Bad Pair Mining Approach (ICLR
    2024, arXiv 2302.03357); strengths of the authors' code for ECG. Um et al., ICMI 2017, arXiv 1706.00527, has jitter,
    scaling and permutation; Eldele et al., IJCAI 2021, arXiv 2106.14112, the two unlike views. The crop is ours.

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
        """The views of a batch of standardised series of one length."""
        return tuple(
            self._view(samples, index, (seed, epoch, Purpose.VIEW, view), steps)
            for view, steps in enumerate(self._steps)
        )

    def _view(self, series: Tensor, index: Tensor, keys: tuple[int, ...], steps: tuple[SeriesStep, ...]) -> Tensor:
        counts = [step.draws(*series.shape[1:]) for step in steps]
        for step, draws in zip(steps, torch.split(uniform(keys, index, sum(counts)), counts, dim=1), strict=True):
            series = step(series, draws)
        return series
