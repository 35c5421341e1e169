"""Gradient of any objective on each query's logits, in closed form."""

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
    """Gradient of an objective on the logits of negatives.

    ``∂L_b/∂l_bj = Σ_s c_bs · s · exp(s · l_bj - lse_bs)``, plus c*_b on the hardest negative

    An objective reads the negatives only through their sums ``lse_s = log Σ_j exp(s · l_j)`` and the hardest negative.
    Its gradient on every logit therefore follows from its gradient on these few numbers per query.

    Attributes:
        pull: ∂L/∂l⁺, (*h, b).
        sums: for each scale s that the objective used: s, c_s and lse_s, the last two (*h, b).
        hardest: c* and the score of the hardest negative, (*h, b) each; None where the objective does not use it.
    """

    pull: Float[Tensor, "*h b"]
    sums: tuple[tuple[float, Tensor, Tensor], ...]
    hardest: tuple[Tensor, Tensor] | None

    @property
    def is_softmax(self) -> bool:
        """Whether the gradient is proportional to exp(l), as for InfoNCE and DCL."""
        return self.hardest is None and [scale for scale, _, _ in self.sums] == [1.0]

    def sizes(self, tile: Tile) -> Float[Tensor, "*h b t"]:
        """Relative gradient magnitude of each negative in a tile, in proportion to |∂L/∂l|.

        Shares of a query's gradient are ratios of these numbers. For a softmax objective these are the softmax
        probabilities. They do not vanish when the query is solved and its gradient vanishes.

        Args:
            tile: block of negatives, t columns.
        """
        if not self.is_softmax:
            return self.of(tile).abs()
        # The logit of an offered negative is at most lse. Clamp the others, whose exp could overflow.
        return (tile.logit - self.sums[0][2][..., None]).clamp_(max=0).exp_().mul_(tile.offered)

    def push(self, total: Tensor) -> Tensor:
        """Σ |∂L/∂l| of each query, from the sum of its `sizes`."""
        return total * self.sums[0][1].abs().flatten() if self.is_softmax else total

    def of(self, tile: Tile) -> Float[Tensor, "*h b t"]:
        """∂L/∂l of the negatives in a tile, (*h, b, t); 0 for those that are not offered."""
        total = torch.zeros_like(tile.logit)
        for scale, coefficient, partition in self.sums:
            total += (scale * coefficient)[..., None] * torch.exp(scale * tile.logit - partition[..., None])
        if self.hardest is not None:
            coefficient, score = self.hardest
            highest = (tile.score == score[..., None]) & tile.offered
            total += highest * (coefficient / highest.sum(dim=-1).clamp(min=1))[..., None]
        return total.masked_fill(~tile.offered, 0.0)


def logit_gradient(loss: LogitLoss, pairs: Pairs, positive: PositiveLogits, negatives: NegativeLogits) -> LogitGradient:
    """Compute an objective's gradient on the logits.

    The objective runs as in training; the sums that it reads are recorded, and its loss is differentiated by them. The
    gradient is that of each query's own loss, before weighting. Whatever an objective holds constant (DCLW's weights)
    is constant here. With extra positives, ∂L/∂l⁺ is the gradient on the query's own positive.

    Args:
        loss: the loss.
        pairs: pairs after the transforms.
        positive, negatives: their logits.
    """
    with torch.inference_mode(False), torch.enable_grad():
        asked = _Asked(negatives)
        leaf = positive.logit.detach().clone().requires_grad_()
        losses = loss.of_logits(pairs, positive.as_functions_of(leaf), asked)
        inputs = [leaf, *asked.sums.values(), *asked.hard]
        found = torch.autograd.grad(losses.sum(), inputs, allow_unused=True, materialize_grads=True)
    pull, rest = found[0], found[1:]
    sums = tuple((scale, c, lse.detach()) for (scale, lse), c in zip(asked.sums.items(), rest, strict=False))
    hardest = (rest[-1], highest_score(negatives)) if asked.hard else None
    return LogitGradient(pull, sums, hardest)


def highest_score(negatives: NegativeLogits) -> Float[Tensor, "*h b"]:
    """Highest score of each query's negatives, (*h, b), read from the tiles; `hardest` may round it differently."""
    best = [tile.score.masked_fill(~tile.offered, -torch.inf).amax(dim=-1) for tile in _some(negatives.tiles())]
    return torch.stack(best).amax(dim=0)


def _some(tiles: Iterator[Tile]) -> Iterator[Tile]:
    return (tile for tile in tiles if tile.score.shape[-1])


class _Asked(NegativeLogits):
    """Negatives whose answers to an objective are leaf tensors, recorded for differentiation."""

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
