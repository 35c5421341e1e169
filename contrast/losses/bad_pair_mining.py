"""DBPM: pairs whose loss has been too low or too high for epochs count less."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.checks import checked
from contrast.distributed import gather_detached
from contrast.errors import InputError
from contrast.losses.base import PairWeighting
from contrast.runs.length import RunLength

__all__ = ["BadPairMining", "bad_pair_weights"]

_BY_SAMPLE = ("total", "count", "is_noisy", "is_faulty")


class BadPairMining(PairWeighting):
    """DBPM: samples whose mean loss stands out are weighted by how far their present loss is from the crowd's.

    From epoch 0 each sample's unweighted loss, the mean of its queries', is added up. When an epoch after the warm-up
    begins, ``m_i`` is the mean of sample i's past losses, μ and σ are mean and deviation of m over the samples, and a
    pair is flagged as noisy (its views too alike) if ``m_i <= μ - β_np σ``, as faulty (not of one thing) if
    ``m_i >= μ + β_fp σ``. Through the epoch a flagged sample has the weight ``exp(-((L_i - μ)/σ)² / 2)`` at its present
    loss L_i, every other one 1; the loss is the mean of weight times loss, not divided by the weights.

    Source: Lan et al., ICLR 2024, arXiv 2302.03357, section 3. The paper's weight is the normal density itself, which
    is above 1 where σ < 0.4 and then weights flagged pairs up; without its factor, ours is at most 1. Paper and code
    differ: the authors' code scales a loss of epoch j by (1 + j)/E before taking the mean, which makes m smaller than
    any present loss; here m is the mean, as in the paper.

    Args:
        samples: how many samples there are; a configuration's data say so if it is left out.
        warmup_epochs: no pair is flagged before this epoch, counted from 0; the paper's is 50 of 80.
        noisy: β_np, in deviations.
        faulty: β_fp, in deviations.
        density: weight by the normal density itself, as the paper does.

    Attributes:
        total, count: each sample's sum of losses, and of how many.
        is_noisy, is_faulty: which samples are flagged in this epoch.
        mean, deviation: μ and σ of this epoch.

    Raises:
        InputError: where samples is not above 0, warmup_epochs below 1, or a threshold negative.

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
        self.register_load_state_dict_pre_hook(_take_size)  # type: ignore[no-untyped-call]  # torch's has no types

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        # A buffer, since a run resumed in mid-epoch calls again, when some of this epoch's losses are already in.
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

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        """Number the samples in a stored state as other data do; a new sample starts as never seen."""
        for name in _BY_SAMPLE:
            values = state[prefix + name]
            state[prefix + name] = torch.where(old_of >= 0, values[old_of.clamp(min=0)], torch.zeros_like(values[:1]))

    def samples_in(self, state: dict[str, Tensor], prefix: str) -> int | None:
        """How many samples a stored state is of."""
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
    """Be of the size of what is loaded: a run may be evaluated on another data set than it was trained on."""
    for name in _BY_SAMPLE:
        loaded = state.get(prefix + name)
        if isinstance(loaded, Tensor):
            mining.register_buffer(name, torch.zeros_like(loaded, device=getattr(mining, name).device))


class Flags(NamedTuple):
    """Which samples are flagged, (n,) each."""

    noisy: Tensor
    faulty: Tensor


def flag(
    history_mean: Float[Tensor, " n"],
    mean: Float[Tensor, ""],
    deviation: Float[Tensor, ""],
    noisy: float,
    faulty: float,
) -> Flags:
    """``m <= μ - β_np σ`` and ``m >= μ + β_fp σ``; nothing where all samples are alike (σ = 0)."""
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
    """Weights of samples from their present and past losses; arXiv 2302.03357, section 3.

    Args:
        losses: L, each sample's present loss.
        history_mean: m, the mean of its past losses.
        mean, deviation: μ and σ of m over all samples.
        noisy, faulty: β_np and β_fp.
        density: the normal density in place of ``exp(-((L - μ)/σ)² / 2)``.
    """
    flags = flag(history_mean, mean, deviation, noisy, faulty)
    return torch.where(flags.noisy | flags.faulty, gaussian(losses, mean, deviation, density), 1.0).to(losses.dtype)


def gaussian(losses: Tensor, mean: Tensor, deviation: Tensor, density: bool) -> Tensor:
    """The bell over μ and σ at each loss: of height 1, or of area 1 as a density."""
    bell = torch.exp(-(((losses - mean) / deviation) ** 2) / 2)
    return bell / (deviation * math.sqrt(2 * math.pi)) if density else bell


def pool(losses: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> tuple[Tensor, Tensor, Tensor]:
    """The samples of all processes, where each of this one's queries is among them, and each sample's mean loss."""
    samples, everyone = torch.unique(gather_detached(index), return_inverse=True)
    gathered = gather_detached(losses).double()
    pooled = gathered.new_zeros(len(samples)).index_add_(0, everyone, gathered)
    pooled = pooled / everyone.bincount(minlength=len(samples))
    return samples, torch.searchsorted(samples, index), pooled
