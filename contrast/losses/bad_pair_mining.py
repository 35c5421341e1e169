"""Bad-pair mining (DBPM): lower weights for samples whose past loss is unusually low or high."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.distributed import gather_detached
from contrast.errors import InputError
from contrast.losses.base import PairWeighting
from contrast.runs.length import RunLength

__all__ = ["BadPairMining", "bad_pair_weights"]

_BY_SAMPLE = ("total", "count", "is_noisy", "is_faulty")


class BadPairMining(PairWeighting):
    """Bad-pair mining (DBPM): flag samples with an unusual mean loss and reduce their weight.

    ``w_i = exp(-((L_i - μ)/σ)² / 2)`` for a flagged sample i with the current loss L_i, and 1 for every other sample

    From epoch 0 on, the unweighted loss of each sample (the mean over its queries) is summed up. At the start of each
    epoch after the warm-up, m_i is the mean of the past losses of sample i. μ and σ are the mean and the standard
    deviation of m over all samples. Sample i is flagged for the epoch:

    - as noisy (its two views are too similar) if ``m_i <= μ - β_np σ``
    - as faulty (its two views do not show the same thing) if ``m_i >= μ + β_fp σ``

    The loss is the mean of weight times loss. It is not divided by the sum of the weights.

    Args:
        samples: the number of training samples. If omitted, the configuration's data give it.
        warmup_epochs: the first epoch, counted from 0, in which pairs are flagged. The paper uses 50 of 80.
        noisy: β_np, in standard deviations.
        faulty: β_fp, in standard deviations.
        density: whether the weight is the normal density itself, as in the paper.

    Attributes:
        total: sum of the past losses of each sample, (n,), float64.
        count: number of past losses of each sample, (n,).
        is_noisy: whether each sample is flagged as noisy in this epoch, (n,).
        is_faulty: whether each sample is flagged as faulty in this epoch, (n,).
        mean: μ of this epoch.
        deviation: σ of this epoch.

    Raises:
        InputError: if samples is not above 0, warmup_epochs is below 1, or a threshold is negative.

    Source: Lan et al., ICLR 2024, arXiv 2302.03357, section 3. The paper's weight is the normal density itself. The
    density is above 1 for σ < 0.4, and then raises the weight of flagged pairs. Without its normalising factor, our
    weight is at most 1. Paper and code differ: the authors' code scales a loss of epoch j by (1 + j)/E before it takes
    the mean, which makes m smaller than any current loss. Here m is the plain mean, as in the paper.

    Example:
        >>> mining = BadPairMining(samples=4, warmup_epochs=1, noisy=9.0, faulty=1.0)
        >>> mining.begin_epoch(0)
        >>> mining(torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.arange(4))
        tensor([1., 1., 1., 1.])
        >>> mining.begin_epoch(1)
        >>> mining(torch.tensor([1.0, 1.0, 1.0, 5.0]), torch.arange(4)).round(decimals=2)
        tensor([1.0000, 1.0000, 1.0000, 0.2200])
    """

    total: Tensor
    count: Tensor
    is_noisy: Tensor
    is_faulty: Tensor
    mean: Tensor
    deviation: Tensor
    begun: Tensor

    @checked
    def __init__(
        self,
        samples: int | None = None,
        warmup_epochs: int = 50,
        noisy: float = 2.0,
        faulty: float = 3.0,
        density: bool = False,
    ) -> None:
        super().__init__()
        if samples is None or samples < 1:
            raise InputError(f"BadPairMining of {samples} samples: give `samples`, the size of the training set")
        if warmup_epochs < 1:
            raise InputError(f"BadPairMining's warmup_epochs {warmup_epochs} leaves no past losses: give at least 1")
        for name, value in (("noisy", noisy), ("faulty", faulty)):
            if not value >= 0:
                raise InputError(f"BadPairMining's {name} {value:g} is negative: it counts deviations from the mean")
        self.warmup_epochs, self.noisy, self.faulty, self.density = warmup_epochs, noisy, faulty, density
        self.register_buffer("total", torch.zeros(samples, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(samples, dtype=torch.int64))
        self.register_buffer("is_noisy", torch.zeros(samples, dtype=torch.bool))
        self.register_buffer("is_faulty", torch.zeros(samples, dtype=torch.bool))
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("deviation", torch.zeros((), dtype=torch.float64))
        self.register_buffer("begun", torch.tensor(-1))
        self.register_load_state_dict_pre_hook(_take_size)  # type: ignore[no-untyped-call]  # torch's method has no types

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        # `begun` is a buffer: a run resumed in the middle of an epoch calls this hook again, when some losses of the
        # epoch are already in the sums.
        if epoch <= int(self.begun):
            return
        self.begun.fill_(epoch)
        seen = self.count > 0
        if epoch < self.warmup_epochs or not seen.any():
            return
        mean = self.total / self.count.clamp(min=1)
        self.mean.copy_(mean[seen].mean())
        self.deviation.copy_(mean[seen].std(correction=0))
        flags = flag(mean, self.mean, self.deviation, self.noisy, self.faulty)
        self.is_noisy.copy_(flags.noisy & seen)
        self.is_faulty.copy_(flags.faulty & seen)

    def never_acts(self, run: RunLength) -> str | None:
        return run.before_epoch("BadPairMining (DBPM)", self.warmup_epochs, "it will never weight a pair")

    @torch.no_grad()
    @checked
    def forward(self, losses: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        self._check(index)
        samples, place, pooled = pool(losses, index)
        if self.training:
            self.total.index_add_(0, samples, pooled)
            self.count.index_add_(0, samples, torch.ones_like(samples))
        flagged = self.is_noisy[samples] | self.is_faulty[samples]
        weights = torch.where(flagged, gaussian(pooled, self.mean, self.deviation, self.density), 1.0)
        return weights[place].to(losses.dtype)

    def flags(self) -> dict[str, Bool[Tensor, " n"]]:
        return {"noisy": self.is_noisy, "faulty": self.is_faulty}

    def flag_statistics(self) -> dict[str, float]:
        return {"mean": self.mean.item(), "deviation": self.deviation.item()}

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        """Renumber the samples of a stored state for another data set; new samples start without past losses."""
        for name in _BY_SAMPLE:
            values = state[prefix + name]
            state[prefix + name] = torch.where(old_of >= 0, values[old_of.clamp(min=0)], torch.zeros_like(values[:1]))

    def samples_in(self, state: dict[str, Tensor], prefix: str) -> int | None:
        """Number of samples in a stored state."""
        return len(state[prefix + "count"]) if prefix + "count" in state else None

    def _check(self, index: Tensor) -> None:
        if len(index) and not (int(index.min()) >= 0 and int(index.max()) < len(self.count)):
            raise InputError(
                f"BadPairMining of {len(self.count)} samples got sample {int(index.max())} (and {int(index.min())}): "
                "give `samples`, the size of the training set"
            )

    def extra_repr(self) -> str:
        return (
            f"samples={len(self.count)}, warmup_epochs={self.warmup_epochs}, noisy={self.noisy:g}, "
            f"faulty={self.faulty:g}, density={self.density}"
        )


def _take_size(mining: torch.nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Resize the buffers to the loaded state, because a run may be evaluated on another data set."""
    for name in _BY_SAMPLE:
        loaded = state.get(prefix + name)
        if isinstance(loaded, Tensor):
            mining.register_buffer(name, torch.zeros_like(loaded, device=getattr(mining, name).device))


class Flags(NamedTuple):
    """Flagged samples.

    Attributes:
        noisy: (n,), True where a sample is flagged as noisy.
        faulty: (n,), True where a sample is flagged as faulty.
    """

    noisy: Tensor
    faulty: Tensor


def flag(
    history_mean: Float[Tensor, " n"],
    mean: Float[Tensor, ""],
    deviation: Float[Tensor, ""],
    noisy: float,
    faulty: float,
) -> Flags:
    """Flag samples with ``m <= μ - β_np σ`` (noisy) or ``m >= μ + β_fp σ`` (faulty); none if σ = 0."""
    differ = deviation > 0
    return Flags(
        differ & (history_mean <= mean - noisy * deviation), differ & (history_mean >= mean + faulty * deviation)
    )


@checked
def bad_pair_weights(
    losses: Float[Tensor, " b"],
    history_mean: Float[Tensor, " b"],
    mean: Float[Tensor, ""],
    deviation: Float[Tensor, ""],
    noisy: float = 2.0,
    faulty: float = 3.0,
    density: bool = False,
) -> Float[Tensor, " b"]:
    """DBPM weights of samples from their current and past losses.

    ``w = exp(-((L - μ)/σ)² / 2)`` if ``m <= μ - β_np σ`` or ``m >= μ + β_fp σ``, else 1

    Args:
        losses: L, the current loss of each sample, (b,).
        history_mean: m, the mean of its past losses, (b,).
        mean: μ, the mean of m over all samples.
        deviation: σ, the standard deviation of m over all samples.
        noisy: β_np.
        faulty: β_fp.
        density: whether to use the normal density in place of ``exp(-((L - μ)/σ)² / 2)``.

    Returns:
        The weight of each sample, (b,).

    Source: Lan et al., ICLR 2024, arXiv 2302.03357, section 3.
    """
    flags = flag(history_mean, mean, deviation, noisy, faulty)
    return torch.where(flags.noisy | flags.faulty, gaussian(losses, mean, deviation, density), 1.0).to(losses.dtype)


def gaussian(losses: Tensor, mean: Tensor, deviation: Tensor, density: bool) -> Tensor:
    """Gaussian curve with mean μ and deviation σ at each loss: with maximum 1, or as a density with area 1."""
    bell = torch.exp(-(((losses - mean) / deviation) ** 2) / 2)
    return bell / (deviation * math.sqrt(2 * math.pi)) if density else bell


def pool(losses: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss of each sample over the queries of all processes.

    Returns:
        The sorted samples of all processes; the position of each query of this process among them; the mean loss of
        each sample, float64.
    """
    samples, everyone = torch.unique(gather_detached(index), return_inverse=True)
    gathered = gather_detached(losses).double()
    pooled = gathered.new_zeros(len(samples)).index_add_(0, everyone, gathered)
    pooled = pooled / everyone.bincount(minlength=len(samples))
    return samples, torch.searchsorted(samples, index), pooled
