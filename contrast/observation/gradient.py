"""Each query's gradient on its logits, in closed form, whatever the objective is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from contrast.losses import LogitLoss, NegativeLogits, PositiveLogits, Tile
from contrast.pairs import Pairs

__all__ = ["LogitGradient", "logit_gradient"]


@dataclass(frozen=True)
class LogitGradient:
    """``∂L_b/∂l_bj = Σ_s c_bs · s · exp(s · l_bj - lse_bs)``, and c*_b more on the hardest.

    An objective sees the negatives through their sums ``lse_s = log Σ_j exp(s · l_j)`` and the hardest alone, so that
    its gradient on every logit follows from that on these few numbers a query.

    Attributes:
        pull: ∂L/∂l⁺, (*h, b).
        sums: for each scale s that was asked for: s, c_s and lse_s, (*h, b) each.
        hardest: c* and the hardest negative's score, where the objective asks for it.
    """

    pull: Float[Tensor, "*h b"]
    sums: tuple[tuple[float, Tensor, Tensor], ...]
    hardest: tuple[Tensor, Tensor] | None

    @property
    def is_softmax(self) -> bool:
        """Whether it is in proportion to exp(l), as InfoNCE's and DCL's are."""
        return self.hardest is None and [scale for scale, _, _ in self.sums] == [1.0]

    def sizes(self, tile: Tile) -> Float[Tensor, "*h b t"]:
        """|∂L/∂l| of the negatives in a tile, in proportion: what shares of a query's gradient are taken of.

        Of a softmax those are its probabilities, which do not vanish where the gradient of a solved query does.
        """
        if not self.is_softmax:
            return self.of(tile).abs()
        # No logit that counts is above the sum's logarithm; those left out may be, and would be infinite.
        return (tile.logit - self.sums[0][2][..., None]).clamp_(max=0).exp_().mul_(tile.offered)

    def push(self, total: Tensor) -> Tensor:
        """Σ |∂L/∂l| of each query, from the sum of its sizes."""
        return total * self.sums[0][1].abs().flatten() if self.is_softmax else total

    def of(self, tile: Tile) -> Float[Tensor, "*h b t"]:
        """∂L/∂l of the negatives in a tile; 0 for those that are left out."""
        total = torch.zeros_like(tile.logit)
        for scale, coefficient, partition in self.sums:
            total += (scale * coefficient)[..., None] * torch.exp(scale * tile.logit - partition[..., None])
        if self.hardest is not None:
            coefficient, score = self.hardest
            highest = (tile.score == score[..., None]) & tile.offered
            total += highest * (coefficient / highest.sum(dim=-1).clamp(min=1))[..., None]
        return total.masked_fill(~tile.offered, 0.0)


def logit_gradient(loss: LogitLoss, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> LogitGradient:
    """Ask the objective as training does, and see what it asks for and how its answer depends on that.

    The gradient is that of each query's own loss, before weighting. What an objective holds constant (DCLW's weights)
    is constant here. With further positives ∂L/∂l⁺ is that on the query's own.

    Args:
        loss: the loss.
        pairs: as they were after the transforms.
        positive, negatives: their logits.
    """
    with torch.inference_mode(False), torch.enable_grad():
        asked = _Asked(negatives)
        leaf = positive.logit.detach().clone().requires_grad_()
        losses = loss.of_logits(pairs, PositiveLogits(positive.score.detach().clone(), leaf), asked)
        inputs = [leaf, *asked.sums.values(), *asked.hard]
        found = torch.autograd.grad(losses.sum(), inputs, allow_unused=True, materialize_grads=True)
    pull, rest = found[0], found[1:]
    sums = tuple((scale, c, lse.detach()) for (scale, lse), c in zip(asked.sums.items(), rest, strict=False))
    hardest = (rest[-1], highest_score(negatives)) if asked.hard else None
    return LogitGradient(pull, sums, hardest)


def highest_score(negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
    """As it stands in the tiles: what `hardest` gives may be rounded otherwise."""
    best = [tile.score.masked_fill(~tile.offered, -torch.inf).amax(dim=-1) for tile in _some(negatives.tiles())]
    return torch.stack(best).amax(dim=0)


def _some(tiles: Iterator[Tile]) -> Iterator[Tile]:
    return (tile for tile in tiles if tile.score.shape[-1])


class _Asked(NegativeLogits):
    """Negatives whose answers are leaves, each kept."""

    def __init__(self, negatives: NegativeLogits) -> None:
        self._negatives, self.count = negatives, negatives.count.clone()
        self.sums: dict[float, Tensor] = {}
        self.hard: list[Tensor] = []
        self._hardest_score: Tensor | None = None

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        if scale not in self.sums:
            with torch.no_grad():
                found = self._negatives.logsumexp(scale)
            self.sums[scale] = found.requires_grad_()
        return self.sums[scale]

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        if self._hardest_score is None:
            with torch.no_grad():
                self._hardest_score, logit = self._negatives.hardest()
            self.hard = [logit.requires_grad_()]
        return self._hardest_score, self.hard[0]

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        with torch.no_grad():
            return self._negatives.logit_of(score)

    def tiles(self) -> Iterator[Tile]:
        return self._negatives.tiles()
