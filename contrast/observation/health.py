"""Health of embeddings and features: effective rank (RankMe), spectrum, deviations, norms and uniformity."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.distributed import gather_detached
from contrast.losses import Loss, LossOutput
from contrast.observation.blocks import as_numbers
from contrast.observation.observer import ObservedOutput, Observer, floats_at
from contrast.observation.sums import SHARES, Average, Histogram, array, draws

__all__ = ["Health", "Order", "Rows", "health", "uniformity"]

FEWEST, MOST = 256, 1024
"""Bounds on the number of sampled rows: twice the width, within these; sampling depends only on the rows' samples."""
_SHARES = np.array(SHARES)
_PLACES = 48
"""Number of singular values in the spectrum."""


class Order:
    """Order in which rows of a step, of all processes, are sampled for health; it depends only on their samples.

    Args:
        index: sample of each row of this process, (n,).
        draw: result of `draws` for these rows, (n,).
    """

    def __init__(self, index: Int[Tensor, " n"], draw: Float[Tensor, " n"]) -> None:
        self._draw, self.index = draw, gather_detached(index)

    @functools.cached_property
    def places(self) -> Int[Tensor, " n"]:
        """Positions of the gathered rows, lowest draw first; a collective call, so every process must make it."""
        return gather_detached(self._draw).argsort(stable=True)

    def of(self, index: Int[Tensor, " n"]) -> Order:
        """Order for other rows of the step: the same object if they have the same samples in the same order.

        This is a collective call: every process must make it.
        """
        return self if torch.equal(gather_detached(index), self.index) else Order(index, draws(index))


class Rows:
    """Rows of a step from all processes; a random subset where there are many.

    Args:
        rows: rows of this process, (n, d).
        order: order in which the rows are sampled.

    Attributes:
        rows: gathered rows, at least float32, (m, d).
        index: sample of each gathered row, (m,).
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
    """RankMe, singular value spectrum, standard deviations and norms of embeddings or features.

    RankMe is exp of the entropy of the singular values' shares ``p_k = σ_k / Σ σ``. Rows are not centred.

    Args:
        rows: rows of the step.
        unit: whether rows are normalised first; norms are taken before that.

    Source: Garrido et al., ICML 2023, arXiv 2210.02885, eq. 1.
    """
    norms = rows.rows.norm(dim=1)
    used = rows.rows / norms.clamp(min=1e-12)[:, None] if unit else rows.rows
    wide = used.double()  # float64: squared singular values need twice the digits
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
    """Uniformity of embeddings: ``log mean exp(-2 ‖x - y‖²)`` over pairs of unit rows of different samples.

    Source: Wang and Isola, ICML 2020, arXiv 2005.10242, with t = 2.
    """
    unit = torch.nn.functional.normalize(rows.rows, dim=1)
    different = (rows.index[:, None] != rows.index[None]) | (rows.index < 0)  # rows of unknown sample differ from all
    apart = as_numbers(different.fill_diagonal_(False), unit)
    potential = (unit @ unit.T).mul_(4).sub_(4).exp_()  # ‖x - y‖² = 2 - 2 x·y
    both = torch.linalg.vecdot(potential, apart), apart.sum(dim=1)
    total, pairs = torch.stack(both).sum(dim=1, dtype=torch.float64).tolist()
    return math.log(total / pairs) if pairs else math.nan


def _singular_values(rows: Tensor) -> Tensor:
    """Singular values in descending order, through the smaller Gram matrix.

    This is many times as fast as an SVD of the rows.
    """
    gram = rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T
    # The diagonal bounds every entry, so its sum tells whether all are finite. If not, the run is about to be stopped,
    # and eigvalsh would raise.
    if not math.isfinite(gram.trace()):
        return rows.new_full((min(rows.shape),), math.nan)
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0).sqrt()
    return values


def _deviations(rows: Tensor) -> Tensor:
    """Standard deviation of each column; in float64 E[x²] − E[x]² is exact enough, and far faster along columns."""
    variance: Tensor = torch.linalg.vecdot(rows, rows, dim=0) / len(rows) - rows.mean(dim=0).square()
    return variance.clamp(min=0).sqrt()


def _some(values: Tensor) -> dict[str, list[float]]:
    """Singular values relative to the largest: the first ones, then at logarithmically spaced places."""
    places, every = _places(len(values)), values.tolist()
    largest = max(every[0], 1e-300)
    return {"place": list(places), "value": [float(f"{every[place - 1] / largest:.4g}") for place in places]}


@functools.cache
def _places(count: int) -> tuple[int, ...]:
    spaced = np.exp(np.linspace(0, math.log(count), _PLACES)).round().astype(int).tolist()
    return tuple(dict.fromkeys(spaced))


def _quantiles(values: Tensor) -> list[float]:
    """Quantiles with linear interpolation; numpy's own call takes ten times as long."""
    ordered = np.sort(values.cpu().numpy().astype(np.float64))
    found = np.interp(_SHARES * (len(ordered) - 1), np.arange(len(ordered)), ordered)
    return [float(f"{value:.6g}") for value in found.tolist()]


_MARGIN_BINS = 100
_LOGGED = {
    "embedding/alignment": ("embedding", "alignment"),
    "embedding/uniformity": ("embedding", "uniformity"),
    "embedding/rank_me": ("embedding", "rank_me"),
    "features/rank_me": ("features", "rank_me"),
}


class Health(Observer):
    """Observer of the embeddings of all directions and of the network outputs: alignment, health and margin.

    Args:
        device: device of the pairs.
    """

    def __init__(self, device: torch.device) -> None:
        self._alignment = Average(device)
        self._margin = Histogram(device, _MARGIN_BINS, -2.0, 2.0)
        self._negatives = False
        self._health: dict[str, Any] = {}

    def add(self, loss: Loss, output: LossOutput) -> None:
        assert isinstance(output, ObservedOutput)
        for pairs in output.pairs:
            apart = (pairs.query - pairs.positive).double()
            self._alignment.add(array(torch.linalg.vecdot(apart, apart).flatten()))
        for seen in output.negatives:
            if seen.kinds:
                self._negatives = True
                self._margin.add_queries((seen.score - np.maximum(*seen.hardest))[seen.negatives > 0])
        self._health = _health(loss, output)

    def row(self) -> dict[str, Any]:
        """Entries `embedding` and, where the network outputs were recorded, `features`."""
        embedding = {"alignment": self._alignment.value()} | self._health["embedding"]
        if self._negatives:
            margin = self._margin.row()
            embedding["margin"] = {"mean": margin["mean"], "quantiles": margin["quantiles"]}
        return self._health | {"embedding": embedding}

    def scalars(self, row: Mapping[str, Any]) -> dict[str, float]:
        return floats_at(row, _LOGGED)


def _health(loss: Loss, output: ObservedOutput) -> dict[str, Any]:
    queries = torch.cat([pairs.query for pairs in output.pairs], dim=-2)
    order = Order(torch.cat([pairs.index for pairs in output.pairs]), torch.cat(output.draws))
    by_head = [Rows(each, order) for each in (queries.flatten(0, -3) if queries.ndim > 2 else queries[None])]
    unit = loss.unit_embeddings
    found = {"embedding": _mean([health(rows, unit) | {"uniformity": uniformity(rows)} for rows in by_head])}
    if output.raw is not None:
        raw = output.raw
        order = order.of(raw.index)
        heads = raw.embeddings.flatten(0, -3) if raw.embeddings.ndim > 2 else raw.embeddings[None]
        found["embedding"] |= _mean([{"norm": Rows(each, order).norms()} for each in heads])
        found["features"] = health(Rows(raw.features, order), unit=False)
    return found


def _mean(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over heads of nested mappings and lists of numbers with the same structure."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _mean_of([part[name] for part in parts]) for name in parts[0]}


def _mean_of(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return _mean(values)
    if isinstance(values[0], list):
        return [_mean_of(each) for each in zip(*values, strict=True)]
    return values[0] if isinstance(values[0], int) else math.fsum(values) / len(values)
