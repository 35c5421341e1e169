"""Negatives that labels have chosen, as observers see them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from contrast.losses.labelled_logits import LabelledLogits
from contrast.losses.logits import NegativeLogits, Tile
from contrast.losses.temperature import Temperature

__all__ = ["LabelledNegatives"]


class LabelledNegatives(NegativeLogits):
    """A part of the shared rows, chosen for each query and head.

    Args:
        seen: scores and logits with all shared rows.
        offered: which of them are negatives, (*h, b, k).
        temperature: what made logits of scores.
    """

    def __init__(self, seen: LabelledLogits, offered: Bool[Tensor, "*h b k"], temperature: Temperature) -> None:
        self._seen, self._temperature = seen, temperature
        self._offered = offered.expand_as(seen.score)
        self.count = self._offered.sum(dim=-1)

    def logsumexp(self, scale: float = 1.0) -> Float[Tensor, "*h b"]:
        return torch.logsumexp((self._seen.logit * scale).masked_fill(~self._offered, -torch.inf), dim=-1)

    def hardest(self) -> tuple[Float[Tensor, "*h b"], Float[Tensor, "*h b"]]:
        score = self._seen.score.masked_fill(~self._offered, -torch.inf)
        if not score.shape[-1]:
            nothing = score.new_full(score.shape[:-1], -torch.inf)
            return nothing, nothing
        best, column = score.max(dim=-1, keepdim=True)
        logit = self._seen.logit.gather(-1, column).masked_fill(best.isneginf(), -torch.inf)
        return best.squeeze(-1), logit.squeeze(-1)

    def logit_of(self, score: float) -> Float[Tensor, ""]:
        return self._temperature.of_score(self._seen.score.new_tensor(score))

    def tiles(self) -> Iterator[Tile]:
        yield Tile(self._seen.score.detach(), self._seen.logit.detach(), self._offered, own=False, start=0)
