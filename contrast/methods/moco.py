"""MoCo: contrastive learning with a momentum encoder and a queue of keys as negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from contrast.banks import KeyQueue
from contrast.checks import checked
from contrast.data.batch import Batch
from contrast.distributed import gather_detached, own_place, world_size
from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, InfoNCE, Loss
from contrast.methods.base import (
    BankFactory,
    ContrastiveMethod,
    HeadFactory,
    KeySource,
    OptimizerFactory,
    Rates,
    RateScaling,
    unit_rows,
)
from contrast.models import Backbone, MoCoV2Head, momentum_copy, split_batch_norm, update_momentum
from contrast.optim import Schedule, WarmupCosine
from contrast.pairs import Pairs, queue_pairs
from contrast.randomness import Purpose, permutation

__all__ = ["MoCo"]


class MoCo(ContrastiveMethod):
    """MoCo (v1, v2 and v2+): momentum contrast with a key queue.

    ``L = -q·k/τ + log(exp(q·k/τ) + Σ_Q exp(q·k_Q/τ))``, with the key k and the queue Q without gradient

    A step has the authors' order: query, moving average of the key encoder, key, loss; the keys enter the queue after
    backward. The moving average covers the *parameters* only: the key encoder keeps its own batch norm buffers. A row
    of the queue that belongs to the query's own sample is never a negative of that query. The authors' code keeps such
    rows; they hardly occur if the queue is much smaller than the data set. An omitted argument takes v2's value. For
    v1, use a linear head, temperature 0.07 and MoCoV1Views.

    Args:
        backbone: from images to features.
        head: the projection head. If omitted, v2's two layers.
        loss: the loss. If omitted, InfoNCE at temperature 0.2.
        bank: the key queue. If omitted, 65,536 keys. Several heads (`MultiHead`) have one queue each.
        momentum: share of itself that the key encoder keeps at each step, within [0, 1].
        symmetric: whether both views are queries (v2+), each against its own queue. The loss is the mean over all
            queries.
        batch_norm_groups: number of parts of a batch that batch norm normalises separately. On one device, this
            replaces shuffling across devices. 1 leaves batch norm unchanged.
        optimizer: the optimiser. If omitted, SGD at 0.03 with momentum 0.9 and weight decay 1e-4.
        schedule: the learning-rate schedule. If omitted, cosine without warm-up.
        rate_scaling: how the learning rate grows with the global batch size; linear in the paper.
        rate_reference: the batch size that the learning rate is meant for.
        rates: learning rates of parameter groups relative to the optimiser's rate. If omitted, all groups have one
            rate.

    Raises:
        InputError: if momentum is outside [0, 1].

    Source: v1, He et al., CVPR 2020, arXiv 1911.05722, algorithm 1; v2, Chen et al., arXiv 2003.04297; v2+, symmetric
    with one queue per view, is the form of solo-learn (da Costa et al., JMLR 2022, arXiv 2108.01775).
    """

    @checked
    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory | None = None,
        loss: Loss | None = None,
        bank: BankFactory | None = None,
        momentum: float = 0.999,
        symmetric: bool = False,
        batch_norm_groups: int = 1,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        rate_scaling: RateScaling = "linear",
        rate_reference: int = 256,
        rates: Rates | None = None,
    ) -> None:
        if not 0 <= momentum <= 1:
            raise InputError(f"MoCo's momentum {momentum:g} is outside [0, 1]; the paper's is 0.999")
        super().__init__(
            split_batch_norm(backbone, batch_norm_groups) if batch_norm_groups > 1 else backbone,
            (head or MoCoV2Head)(backbone.width),
            loss or ContrastiveLoss(InfoNCE(), temperature=0.2),
            optimizer or partial(torch.optim.SGD, lr=0.03, momentum=0.9, weight_decay=1e-4),
            schedule or WarmupCosine(warmup_epochs=0),
            rate_scaling,
            rate_reference,
            rates,
        )
        self.key_encoder = momentum_copy(nn.Sequential(self.backbone, self.head))
        make_bank = bank or KeyQueue
        # Ordered by direction, then by head: each head has its own embedding space and needs its own queue.
        queues = (1 + symmetric) * (self.head.head_count or 1)
        self.queues = nn.ModuleList(make_bank(self.head.output_width) for _ in range(queues))
        self.momentum, self.symmetric, self.batch_norm_groups = momentum, symmetric, batch_norm_groups

    def pairs(self, batch: Batch) -> Sequence[Pairs]:
        first, second = batch.inputs
        directions = [(first, second), (second, first)] if self.symmetric else [(first, second)]
        queries = [self.embed(view) for view, _ in directions]
        update_momentum(nn.Sequential(self.backbone, self.head), self.key_encoder, self.momentum)
        keys = [self.embed_keys(view, direction) for direction, (_, view) in enumerate(directions)]
        by_direction = enumerate(zip(queries, keys, strict=True))
        return [self._against_queue(direction, *rows, batch.index) for direction, rows in by_direction]

    def _against_queue(self, direction: int, query: Tensor, key: Tensor, index: Tensor) -> Pairs:
        heads = self.head.head_count
        several, count = heads is not None, heads or 1
        banks = self.banks()[direction * count : (direction + 1) * count]
        by_head = list(zip(banks, query if several else [query], key if several else [key], strict=True))
        offered = [self.meet(bank, of_head.detach(), index) for bank, of_head, _ in by_head]
        for bank, _, of_head in by_head:
            self.remember(bank, of_head, index)
        none = query.new_zeros((*query.shape[:-2], 0, query.shape[-1]))
        return queue_pairs(query, key, none, index, index[:0], view=direction).with_bank(offered)

    def key_source(self, bank: int) -> KeySource:
        return KeySource(self.key_encoder, view=1 - bank // (self.head.head_count or 1), head=self._head_of(bank))

    @torch.no_grad()
    def embed_keys(self, images: Float[Tensor, "b *shape"], direction: int = 0) -> Float[Tensor, "*h b d"]:
        """Keys of this rank's images, encoded in shuffled batches (shuffling batch norm).

        The shuffle prevents batch statistics from revealing which key belongs to a query. It is a function of (epoch,
        step, direction). With several devices it runs across devices; on one device it has an effect only with
        `batch_norm_groups`.

        Args:
            images: this rank's images, (b, *shape).
            direction: number of the direction: 0, or 1 for the second one of a symmetric loss.

        Returns:
            The keys, (*h, b, d), in the order of `images`, without gradient.
        """
        if world_size() == 1 and self.batch_norm_groups == 1:
            return unit_rows(self.key_encoder(images), self.loss)
        everyone, place = gather_detached(images), own_place(images)
        keys = (Purpose.BATCH_SHUFFLE, self.current_epoch, self.global_step, direction)
        order = permutation(len(everyone), *keys).to(images.device)
        encoded = unit_rows(self.key_encoder(everyone[order[place]]), self.loss).movedim(-2, 0)  # samples before heads
        return gather_detached(encoded)[order.argsort()[place]].movedim(0, -2)
