"""MoCo with several heads: each head's keys go to its own queue, and one head as an axis is no axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contrast.banks import KeyQueue
from contrast.data.batch import Batch
from contrast.methods import MoCo
from contrast.models import ConvNet, LinearHead, MultiHead


def method(heads: int | None, symmetric: bool = False, groups: int = 1) -> MoCo:
    torch.manual_seed(0)
    net = ConvNet((4, 8), channels=1, image_size=8)
    head = LinearHead if heads is None else lambda width: MultiHead(width, LinearHead, heads)
    return MoCo(net, head, bank=lambda width: KeyQueue(width, 24), symmetric=symmetric, batch_norm_groups=groups)


def batch(seed: int, start: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views: tuple[Tensor, ...] = tuple(torch.randn(8, 1, 8, 8, generator=generator) for _ in range(2))
    return Batch(views, torch.arange(start, start + 8))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_each_heads_keys_are_in_its_own_queue(symmetric: bool, groups: int) -> None:
    moco = method(3, symmetric, groups)
    made = moco.pairs(batch(0))
    moco.on_after_backward()
    for direction, pairs in enumerate(made):
        assert pairs.query.shape == pairs.positive.shape == (3, 8, 128)
        assert pairs.view.tolist() == [direction] * 8
        assert pairs.placeholder.all()
        for head, queue in enumerate(moco.queues[3 * direction : 3 * direction + 3]):
            torch.testing.assert_close(queue.keys[:8], pairs.positive[head])
            assert queue.index.tolist() == [*range(8), *[-1] * 16]
    again = moco.pairs(batch(1, start=4))
    for direction, pairs in enumerate(again):
        assert pairs.placeholder.tolist() == [False] * 8 + [True] * 16
        for head, queue in enumerate(moco.queues[3 * direction : 3 * direction + 3]):
            torch.testing.assert_close(pairs.negatives[head], queue.keys)


def test_one_head_as_an_axis_is_no_head() -> None:
    one, none = method(1), method(None)
    none.head.load_state_dict(one.head.heads[0].state_dict())
    none.key_encoder.load_state_dict(
        {name.replace("heads.0.", ""): value for name, value in one.key_encoder.state_dict().items()}
    )
    for step in range(3):
        losses = []
        for moco in (one, none):
            losses.append(moco.loss(*moco.pairs(batch(step, start=4 * step))).loss)
            moco.on_after_backward()
        torch.testing.assert_close(*losses)
