"""Health of embeddings and features: how many directions they use, and how they fill the sphere."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.distributed import gather_detached
from contrast.observation.blocks import as_numbers
from contrast.observation.sums import SHARES, draws

__all__ = ["Order", "Rows", "health", "uniformity"]

FEWEST, MOST = 256, 1024
"""Rows that are looked at, twice as many as a row is wide within these; which ones depends on their samples alone."""
_SHARES = np.array(SHARES)
_PLACES = 48
"""Singular values that are given."""


class Order:
    """Of which of a step's rows, of all processes, health is looked at: by draws that depend on their samples alone.

    Args:
        index: which sample each of this process's rows is of.
        draw: what `draws` gives for them.
    """

    def __init__(self, index: Int[Tensor, " n"], draw: Float[Tensor, " n"]) -> None:
        self._draw, self.index = draw, gather_detached(index)

    @functools.cached_property
    def places(self) -> Int[Tensor, " n"]:
        """Where the rows stand, those of the lowest draws first; every process is to ask."""
        return gather_detached(self._draw).argsort(stable=True)

    def of(self, index: Int[Tensor, " n"]) -> Order:
        """The same for other rows of the step: itself if they are of the same samples in the same order.
        Every process is to ask.
        """
        return self if torch.equal(gather_detached(index), self.index) else Order(index, draws(index))


class Rows:
    """Rows of a step, of all processes: a part of them where there are very many.

    Args:
        rows: of this process, (n, d).
        order: of them.
    """

    def __init__(self, rows: Float[Tensor, "n d"], order: Order) -> None:
        everyone = gather_detached(rows.detach().float() if rows.dtype.itemsize < 4 else rows.detach())
        most = min(MOST, max(FEWEST, 2 * rows.shape[1]))
        of = order.index
        if len(of) > most:
            kept = order.places[:most]
            everyone, of = everyone[kept], of[kept]
        self.rows, self.index = everyone, of

    def norms(self) -> list[float]:
        """Quantiles of the rows' norms."""
        return _quantiles(self.rows.norm(dim=1))


def health(rows: Rows, unit: bool) -> dict[str, Any]:
    """RankMe, spectrum, deviations and norms.

    RankMe is exp of the entropy of the singular values' shares ``p_k = σ_k / Σ σ`` (Garrido et al., ICML 2023,
    arXiv 2210.02885, eq. 1), of the rows as they are given, not centred.

    Args:
        rows: of the step.
        unit: whether rows are normalised first, for all but their norms.
    """
    norms = rows.rows.norm(dim=1)
    used = rows.rows / norms.clamp(min=1e-12)[:, None] if unit else rows.rows
    wide = used.double()  # squares of singular values need twice the digits
    values = _singular_values(wide)
    shares = values / values.sum().clamp(min=1e-300)
    return {
        "width": used.shape[1],
        "rows": len(used),
        "rank_me": float(torch.special.entr(shares).sum().exp()),
        "spectrum": _some(values),
        "std": _quantiles(_deviations(wide)),
        "norm": _quantiles(norms),
    }


def uniformity(rows: Rows) -> float:
    """``log mean exp(-2 ‖x - y‖²)`` over pairs of unit rows of different samples; Wang and Isola, ICML 2020,
    arXiv 2005.10242, with t = 2.
    """
    unit = torch.nn.functional.normalize(rows.rows, dim=1)
    different = (rows.index[:, None] != rows.index[None]) | (rows.index < 0)  # what is unknown equals nothing
    apart = as_numbers(different.fill_diagonal_(False), unit)
    potential = (unit @ unit.T).mul_(4).sub_(4).exp_()  # ‖x - y‖² = 2 - 2 x·y
    both = torch.linalg.vecdot(potential, apart), apart.sum(dim=1)
    total, pairs = torch.stack(both).sum(dim=1, dtype=torch.float64).tolist()
    return math.log(total / pairs) if pairs else math.nan


def _singular_values(rows: Tensor) -> Tensor:
    """In falling order, through the smaller Gram matrix: many times as fast as a decomposition of the rows."""
    gram = rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T
    # No entry is beyond the diagonal's. A run that is about to be stopped for it; the decomposition would raise.
    if not math.isfinite(gram.trace()):
        return rows.new_full((min(rows.shape),), math.nan)
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()
    return values


def _deviations(rows: Tensor) -> Tensor:
    """Of each column; in float64 the plain difference of moments is exact enough, and far faster along columns."""
    variance: Tensor = torch.linalg.vecdot(rows, rows, dim=0) / len(rows) - rows.mean(dim=0).square()
    return variance.clamp(min=0).sqrt()


def _some(values: Tensor) -> dict[str, list[float]]:
    """The first ones, then ever fewer, over the largest."""
    places, every = _places(len(values)), values.tolist()
    largest = max(every[0], 1e-300)
    return {"place": list(places), "value": [float(f"{every[place - 1] / largest:.4g}") for place in places]}


@functools.cache
def _places(count: int) -> tuple[int, ...]:
    spaced = np.exp(np.linspace(0, math.log(count), _PLACES)).round().astype(int).tolist()
    return tuple(dict.fromkeys(spaced))


def _quantiles(values: Tensor) -> list[float]:
    """Between the two nearest numbers in a straight line, as is usual; numpy's own call takes ten times as long."""
    ordered = np.sort(values.cpu().numpy().astype(np.float64))
    found = np.interp(_SHARES * (len(ordered) - 1), np.arange(len(ordered)), ordered)
    return [float(f"{value:.6g}") for value in found.tolist()]
