"""Negatives that are never all there at once: scores tile by tile, computed again in backward."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from contrast.losses.logits import DenseNegatives, NegativeLogits, Tile, left_out, own_negatives_offered, wide
from contrast.losses.temperature import Temperature
from contrast.pairs import Pairs

__all__ = ["TiledNegatives", "negative_logits"]

_DENSE = 1 << 26
"""Scores (heads · queries · negatives) up to which the whole matrix is held: 256 MiB of float32."""
_TILE = 1 << 24
"""Scores of one tile beyond that."""


def negative_logits(pairs: Pairs, temperature: Temperature) -> NegativeLogits:
    """The negatives of these pairs in the form that suits their number; the numbers are the same either way."""
    rows = pairs.query.shape[:-1].numel()
    if rows * pairs.negatives.shape[-2] <= _DENSE:
        return DenseNegatives(pairs, temperature)
    return TiledNegatives(pairs, temperature, columns=max(1, _TILE // rows))


class TiledNegatives(NegativeLogits):
    """Negatives whose scores are made a tile of columns at a time, in forward and again in backward.

    Memory is that of one tile, gradients of query, negatives and temperature are those of `DenseNegatives`. Own
    negatives are one tile, since their rows are there anyway.

    Args:
        pairs: transformed pairs.
        temperature: scores to logits.
        columns: shared negatives a tile.
    """

    def __init__(self, pairs: Pairs, temperature: Temperature, columns: int) -> None:
        self._pairs, self._temperature = pairs, temperature
        self._query, self._shared = wide(pairs.query), wide(pairs.negatives)
        self._own = None if pairs.own_negatives is None else wide(pairs.own_negatives)
        count = self._shared.shape[-2]
        self._spans = [(start, min(start + columns, count)) for start in range(0, count, columns)]
        offered = [(~left_out(pairs, *span)).sum(dim=-1) for span in self._spans]
        self.count = torch.stack([*offered, own_negatives_offered(pairs).sum(dim=-1)]).sum(dim=0)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        def shared(query: Tensor, rows: Tensor, start: int, stop: int) -> Tensor:
            _, logit = self._scores(query, rows, own=False)
            return _partition(logit, left_out(self._pairs, start, stop), scale)

        def own(query: Tensor, rows: Tensor) -> Tensor:
            _, logit = self._scores(query, rows, own=True)
            return _partition(logit, ~own_negatives_offered(self._pairs), scale)

        parts = [
            checkpoint(shared, self._query, self._shared[..., start:stop, :], start, stop, use_reentrant=False)
            for start, stop in self._spans
        ]
        if self._own is not None:
            parts.append(checkpoint(own, self._query, self._own, use_reentrant=False))
        if not parts:
            return self._query.new_full(self._query.shape[:-1], -torch.inf)
        return torch.logsumexp(torch.stack(parts, dim=-1), dim=-1)

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        best = self._query.new_full(self._query.shape[:-1], -torch.inf)
        row = torch.zeros_like(self._query)
        for tile in self.tiles():
            value, place = tile.score.masked_fill(~tile.offered, -torch.inf).max(dim=-1)
            found = self._rows(tile, place)  # with gradient, though the search for them has none
            row = torch.where((value > best)[..., None], found, row)
            best = torch.maximum(best, value)
        score = (self._query * row).sum(dim=-1)
        logit = self._temperature(score, self._query, row)
        none = self.count == 0
        return score.masked_fill(none, -torch.inf), logit.masked_fill(none, -torch.inf)

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._temperature.of_score(self._query.new_tensor(score))

    def tiles(self) -> Iterator[Tile]:
        for start, stop in self._spans:
            with torch.no_grad():
                score, logit = self._scores(self._query, self._shared[..., start:stop, :], own=False)
                tile = Tile(score, logit, ~left_out(self._pairs, start, stop), own=False, start=start)
            yield tile
        if self._own is not None:
            with torch.no_grad():
                score, logit = self._scores(self._query, self._own, own=True)
            yield Tile(score, logit, own_negatives_offered(self._pairs), own=True, start=0)

    def _scores(self, query: Tensor, rows: Tensor, own: bool) -> tuple[Tensor, Tensor]:
        # Here, since tiles are made when they are asked for, and that may be under autocast.
        with torch.autocast(query.device.type, enabled=False):
            if own:
                score = torch.einsum("...bd,...bsd->...bs", query, rows)
                return score, self._temperature(score, query[..., :, None, :], rows)
            score = query @ rows.transpose(-1, -2)
            return score, self._temperature(score, query[..., :, None, :], rows[..., None, :, :])

    def _rows(self, tile: Tile, place: Int[Tensor, "*h b"]) -> Tensor:
        """The row that `place` names in this tile, for each query."""
        if tile.own and self._own is not None:
            chosen = place[..., None, None].expand(*place.shape, 1, self._own.shape[-1])
            return self._own.gather(-2, chosen).squeeze(-2)
        chosen = (place + tile.start)[..., None].expand(*place.shape, self._shared.shape[-1])
        return self._shared.gather(-2, chosen)


def _partition(logit: Tensor, out: Tensor, scale: float) -> Tensor:
    # Left out after the scale: 0 · -inf would be NaN.
    return torch.logsumexp((logit * scale).masked_fill(out, -torch.inf), dim=-1)
