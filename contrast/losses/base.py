"""Base classes of losses and of their parts: transforms, weightings and loss outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from contrast.distributed import gather, global_mean
from contrast.errors import InputError
from contrast.pairs import Pairs
from contrast.runs.length import RunLength

__all__ = [
    "Loss",
    "LossOutput",
    "PairTransform",
    "PairWeighting",
    "Piece",
    "at_least_float32",
    "both_views",
    "off_diagonal",
    "require_pairs",
    "weighted_mean",
]


def at_least_float32(rows: Tensor) -> Tensor:
    """Convert half-precision rows to float32; float32 and float64 rows are returned unchanged.

    Scores and sums are never computed in half precision, even if autocast chose half precision for the rows.
    """
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def both_views(owner: str, pairs: Sequence[Pairs]) -> tuple[Pairs, Float[Tensor, "*h n d"], Float[Tensor, "*h n d"]]:
    """Gather the queries and positives of all processes, for losses over batch statistics.

    The rows have at least float32 and keep their gradient. Every process computes the same loss of all rows. The
    average of the gradients over processes, as DistributedDataParallel takes it, equals the gradient of a single
    process.

    Args:
        owner: name of the loss, for error messages.
        pairs: the pairs that the loss received. There must be exactly one direction.

    Returns:
        The pairs of the one direction, the gathered queries (*h, n, d) and the gathered positives (*h, n, d).

    Raises:
        InputError: if there are several directions, or fewer than two samples.
    """
    if len(pairs) != 1:
        raise InputError(f"{owner} takes one direction, query and positive, not {len(pairs)}: use --model TwoView")
    (only,) = pairs
    z1, z2 = (gather(at_least_float32(rows).movedim(-2, 0)).movedim(0, -2) for rows in (only.query, only.positive))
    # Two rows may be two views of one sample. Larger batches are not checked, to avoid a synchronisation with the
    # device.
    if z1.shape[-2] < 2 or (z1.shape[-2] == len(only.index) == 2 and bool(only.index[0] == only.index[1])):
        raise InputError(f"{owner} takes statistics over the batch, of 1 samples: give at least 2")
    return only, z1, z2


def off_diagonal(matrices: Float[Tensor, "*h d d"]) -> Float[Tensor, "*h d d"]:
    """Square matrices with the diagonal set to zero."""
    diagonal = torch.eye(matrices.shape[-1], dtype=torch.bool, device=matrices.device)
    return matrices.masked_fill(diagonal, 0)


class Piece(nn.Module, ABC):
    """Base class of the parts of a loss, with hooks for each epoch and each step."""

    def begin_epoch(self, epoch: int) -> None:
        """Hook before the first step of an epoch.

        A run that resumes in the middle of an epoch calls it again for that epoch; the second call must have no effect.
        """

    def begin_step(self, epoch: int, step: int) -> None:
        """Hook before each training step; `step` counts over the whole run."""

    def never_acts(self, run: RunLength) -> str | None:
        """Explain why this piece never acts in a run of this length.

        Returns:
            One sentence without a full stop, or None if the piece does act.
        """
        return None

    def describe(self) -> str:
        """The class name and the settings, in one line."""
        return f"{type(self).__name__}({self.extra_repr()})"


class PairTransform(Piece):
    """Base class of transforms of pairs before scores are computed: mixing, extrapolation, removal of negatives."""

    @abstractmethod
    def forward(self, pairs: Pairs) -> Pairs:
        """Transform the pairs; the loss sees the result."""


class PairWeighting(Piece):
    """Base class of sample weights: one weight per query, computed from its loss and its sample.

    All queries of one sample get the same weight. A weighting may flag samples; the flags are recorded.

    Attributes:
        warmup_epochs: the first epoch, counted from 0, whose flags are recorded by sample.
    """

    warmup_epochs: int = 0

    @abstractmethod
    def forward(self, losses: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Weights of the queries.

        Statistics are taken over the global batch. They are updated in training mode only.

        Args:
            losses: the loss of each query, (b,).
            index: the training sample of each query, (b,).

        Returns:
            The weight of each query, (b,).
        """

    def flags(self) -> dict[str, Bool[Tensor, " n"]]:
        """Flags of the training samples in this epoch, by name: True where a sample is flagged, (n,) each.

        A weighting has the same names in every epoch, at most 8. By default there are none, and nothing is recorded.
        """
        return {}

    def flag_statistics(self) -> dict[str, float]:
        """Numbers behind this epoch's flags, by name, which are recorded with them."""
        return {}


@dataclass(frozen=True)
class LossOutput:
    """Output of a loss, with detached tensors for observers; only `loss` carries a gradient.

    Attributes:
        loss: the scalar to minimise.
        losses: the loss of each query before weighting, (b,). All directions are concatenated. None if the loss has no
            value per query.
        weights: the weight of each query, (b,). None without a weighting.
        pairs: the pairs after the transforms, one element per direction.
    """

    loss: Float[Tensor, ""]
    losses: Float[Tensor, " b"] | None
    weights: Float[Tensor, " b"] | None
    pairs: tuple[Pairs, ...]


class Loss(Piece):
    """Base class of all losses: any function of `Pairs`.

    Use this class if a loss does not fit the four slots of `ContrastiveLoss`.

    Attributes:
        unit_embeddings: whether the method normalises the embeddings to unit length before it makes pairs.
        both_directions: whether both views act as queries, each once. False if the loss takes one direction only.
        uses_negatives: whether the loss needs negatives. A method without negatives refuses such a loss.
        gradient_at_positive: whether gradient reaches the positives. A method that learns only through its positives
            refuses a loss that stops the gradient there.
    """

    unit_embeddings: ClassVar[bool] = True
    both_directions: ClassVar[bool] = True
    uses_negatives: ClassVar[bool] = False
    gradient_at_positive: ClassVar[bool] = True

    @abstractmethod
    def forward(self, *pairs: Pairs) -> LossOutput:
        """Compute the loss of these pairs.

        Args:
            pairs: one `Pairs` per direction. There are several if the directions have different negatives.
        """

    def begin_epoch(self, epoch: int) -> None:
        for piece in self._pieces():
            piece.begin_epoch(epoch)

    def begin_step(self, epoch: int, step: int) -> None:
        for piece in self._pieces():
            piece.begin_step(epoch, step)

    def _pieces(self) -> Iterator[Piece]:
        return (module for module in self.modules() if isinstance(module, Piece) and not isinstance(module, Loss))


def require_pairs(owner: str, pairs: Sequence[Pairs]) -> None:
    """Refuse a call without pairs.

    Raises:
        InputError: if there are no pairs.
    """
    if not pairs:
        raise InputError(f"{owner} was called without pairs: make them with in_batch_pairs or queue_pairs")


def weighted_mean(
    losses: Sequence[Float[Tensor, "..."]], pairs: Sequence[Pairs], weighting: PairWeighting | None
) -> LossOutput:
    """Weighted mean of the query losses over all directions and processes.

    ``L = mean_b weight_b · loss_b``; the sum is divided by the number of queries, not by the sum of the weights.

    Args:
        losses: the losses of each direction, (b,) with one value per query.
        pairs: the pairs of each direction.
        weighting: computes one weight per query. None gives every query the weight 1.
    """
    every = losses[0] if len(losses) == 1 else torch.cat(list(losses))
    weights = None
    if weighting is not None:
        weights = weighting(every.detach(), torch.cat([each.index for each in pairs])).detach()
    loss = global_mean(every if weights is None else weights * every)
    return LossOutput(loss, every.detach(), weights, tuple(each.detached() for each in pairs))
