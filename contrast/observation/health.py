"""Health of embeddings and features: how many directions they use, and how they fill the sphere."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.distributed import gather_detached
from contrast.observation.sums import SHARES
from contrast.randomness import Purpose, uniform

__all__ = ["Rows", "health", "uniformity"]

MOST = 1024
"""Rows that are looked at: which ones depends on their samples alone."""
_PLACES = 48
"""Singular values that are given."""


class Rows:
    """Rows of a step, of all processes, the same whatever their number: a part of them where there are very many.

    Args:
        rows: of this process, (n, d).
        index: which sample each is of.
    """

    def __init__(self, rows: Float[Tensor, "n d"], index: Int[Tensor, " n"]) -> None:
        everyone = gather_detached(rows.detach().float() if rows.dtype.itemsize < 4 else rows.detach())
        of = gather_detached(index)
        if len(of) > MOST:
            kept = uniform((Purpose.OBSERVED_ROWS,), of, 1)[:, 0].argsort(stable=True)[:MOST]
            everyone, of = everyone[kept], of[kept]
        self.rows, self.index = everyone.double(), of


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
    values = _singular_values(used)
    shares = values / values.sum().clamp(min=1e-300)
    return {
        "width": used.shape[1],
        "rank_me": float(torch.special.entr(shares).sum().exp()),
        "spectrum": _some(values),
        "std": _quantiles(used.std(dim=0, correction=0)),
        "norm": _quantiles(norms),
    }


def uniformity(rows: Rows) -> float:
    """``log mean exp(-2 ‖x - y‖²)`` over pairs of unit rows of different samples; Wang and Isola, ICML 2020,
    arXiv 2005.10242, with t = 2.
    """
    unit = torch.nn.functional.normalize(rows.rows, dim=1)
    apart = rows.index[:, None] != rows.index[None]
    if not bool(apart.any()):
        return math.nan
    exponent = (4 * (unit @ unit.T) - 4)[apart]  # ‖x - y‖² = 2 - 2 x·y
    return float(exponent.logsumexp(dim=0)) - math.log(len(exponent))


def _singular_values(rows: Tensor) -> Tensor:
    """In falling order, through the smaller Gram matrix: many times as fast as a decomposition of the rows."""
    gram = rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()
    return values


def _some(values: Tensor) -> dict[str, list[float]]:
    """The first ones, then ever fewer, over the largest."""
    count = len(values)
    places = torch.linspace(0, math.log(count), _PLACES, dtype=torch.float64).exp().round().long()
    places = torch.unique_consecutive(places)
    over = values[(places - 1).to(values.device)] / values[0].clamp(min=1e-300)
    return {"place": places.tolist(), "value": [float(f"{value:.4g}") for value in over.tolist()]}


def _quantiles(values: Tensor) -> list[float]:
    shares = torch.tensor(SHARES, dtype=values.dtype, device=values.device)
    return [float(f"{value:.6g}") for value in torch.quantile(values, shares).tolist()]
