"""MoCo: the order of a step against reference numbers, and what the queue and the shuffle must never do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from contrast import queue_pairs
from contrast.banks import KeyQueue
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, InfoNCE
from contrast.methods import MoCo
from contrast.models import Backbone, ConvNet, Head, MoCoV2Head
from tests.golden_cases import cases, close


class Body(Backbone):
    """tanh(fc1 x) of the golden file; its inputs are vectors."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(width, 1, None)
        self.body = nn.Linear(inputs, width)

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(self.body(images))

    def describe(self) -> dict:
        return {}


class Fc(Head):
    """The last layer of the golden file, or its two."""

    def __init__(self, input_width: int, output_width: int, mlp: bool) -> None:
        super().__init__(input_width, output_width)
        last = nn.Linear(input_width, output_width)
        self.fc = nn.Sequential(nn.Linear(input_width, input_width), nn.ReLU(), last) if mlp else last

    def forward(self, features: Tensor) -> Tensor:
        return self.fc(features)


def weights(arrays: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """Of the golden file's encoder, by the names of `nn.Sequential(Body, Fc)`."""
    mine = {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
    return {("0." if key.startswith("body") else "1.") + key: value for key, value in mine.items()}


def test_one_step_and_the_next_two_against_the_authors_code() -> None:
    for _, parameters, arrays in cases("moco"):
        inputs, width = arrays["im_q"].shape[1], arrays["enc_q_before.body.weight"].shape[0]
        size, count = parameters["K"], parameters["N"]
        method = MoCo(
            Body(inputs, width),
            lambda wide, p=parameters: Fc(wide, p["dim"], p["mlp"]),
            ContrastiveLoss(InfoNCE(), parameters["T"]),
            lambda wide, size=size: KeyQueue(wide, size),
            momentum=parameters["m"],
        ).double()
        encoder = nn.Sequential(method.backbone, method.head)
        encoder.load_state_dict(weights(arrays, "enc_q_before."))
        method.key_encoder.load_state_dict(weights(arrays, "enc_k_before."))
        (queue,) = method.banks()
        queue.keys.copy_(arrays["queue_before"].T)
        output = method.loss(*method.pairs(Batch((arrays["im_q"], arrays["im_k"]), torch.arange(count))))
        output.loss.backward()
        method.on_after_backward()
        close(output.loss.detach(), arrays["step0.loss"])
        close(output.pairs[0].query, arrays["step0.q"])
        close(output.pairs[0].positive, arrays["step0.k"])
        for name, gradient in weights(arrays, "step0.grad_enc_q.").items():
            close(dict(encoder.named_parameters())[name].grad, gradient)
        for name, value in weights(arrays, "step0.enc_k_after.").items():
            close(method.key_encoder.state_dict()[name], value)
        close(queue.keys, arrays["step0.queue_after"].T)
        for step in (1, 2):  # of these the file has queries and keys, not what they were made of
            query, key = arrays[f"step{step}.q"].requires_grad_(), arrays[f"step{step}.k"]
            # New samples at each step: the authors' queue does not leave out a query's own key.
            index = torch.arange(count) + step * count
            offered = queue.negatives(query.detach(), index)
            loss = method.loss(queue_pairs(query, key, offered.keys, index, offered.index)).loss
            loss.backward()
            queue.store(key, index)
            close(loss.detach(), arrays[f"step{step}.loss"])
            close(query.grad, arrays[f"step{step}.grad_q"])
            close(queue.keys, arrays[f"step{step}.queue_after"].T)
            assert queue.pointer.item() == arrays[f"step{step}.ptr_after"].item()


def small(symmetric: bool = False, groups: int = 1, size: int = 16) -> MoCo:
    torch.manual_seed(0)
    return MoCo(
        ConvNet((4, 8), channels=1, image_size=8),
        lambda width: MoCoV2Head(width, output_width=6),
        bank=lambda width: KeyQueue(width, size),
        symmetric=symmetric,
        batch_norm_groups=groups,
    )


def batch(count: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(2, count, 1, 8, 8, generator=generator)
    return Batch((views[0], views[1]), torch.arange(count))


def test_a_query_never_meets_the_key_of_its_own_sample() -> None:
    method = small()
    for _ in range(2):  # the second step meets the first step's keys of the same samples
        (pairs,) = method.pairs(batch())
        _, negatives = method.loss.logits(pairs)
        method.loss(pairs).loss.backward()
        method.on_after_backward()
    assert negatives.count.tolist() == [15] * 8


def test_the_queue_is_written_only_after_backward() -> None:
    method = small()
    (queue,) = method.banks()
    before = queue.keys.clone()
    (pairs,) = method.pairs(batch())
    method.loss(pairs).loss.backward()
    assert torch.equal(queue.keys, before)
    method.on_after_backward()
    assert torch.equal(queue.keys[:8], pairs.positive)
    assert queue.index[:8].tolist() == list(range(8))


def test_symmetric_has_a_queue_a_view_and_is_the_mean_of_both_directions() -> None:
    method = small(symmetric=True)
    made = method.pairs(batch())
    output = method.loss(*made)
    halves = [method.loss(pairs).loss for pairs in made]
    torch.testing.assert_close(output.loss, (halves[0] + halves[1]) / 2)
    output.loss.backward()
    method.on_after_backward()
    first, second = method.banks()
    assert torch.equal(first.keys[:8], made[0].positive)
    assert torch.equal(second.keys[:8], made[1].positive)
    assert not torch.equal(made[0].positive, made[1].positive)


def test_shuffled_keys_are_the_same_keys_in_order_where_no_norm_looks_at_the_batch() -> None:
    method = small(groups=2).eval()
    images = batch().inputs[1]
    expected = nn.functional.normalize(method.key_encoder(images), dim=-1)
    torch.testing.assert_close(method.embed_keys(images), expected)


def test_split_batch_norm_sees_shuffled_parts() -> None:
    """With norms in training mode, keys depend on which company they were in, so the shuffle must show."""
    images = batch().inputs[1]
    torch.manual_seed(0)
    method = small(groups=2)
    straight = nn.functional.normalize(method.key_encoder(images), dim=-1)
    assert not torch.allclose(method.embed_keys(images), straight)


def test_only_parameters_move_slowly_and_ask_for_no_gradient() -> None:
    method = small()
    before = {name: value.clone() for name, value in method.key_encoder.named_buffers()}
    assert not any(parameter.requires_grad for parameter in method.key_encoder.parameters())
    method.pairs(batch())
    after = dict(method.key_encoder.named_buffers())
    own = dict(nn.Sequential(method.backbone, method.head).named_buffers())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed  # its own statistics, from its own forward
    assert any(not torch.equal(after[name], own[name]) for name in changed)


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_momentum_outside_its_range_is_refused(momentum: float) -> None:
    with pytest.raises(InputError, match=f"momentum {momentum:g} is outside"):
        MoCo(ConvNet((4,), channels=1, image_size=8), momentum=momentum)
