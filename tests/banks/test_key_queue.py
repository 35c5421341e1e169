"""The queue against a plain list."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.banks import KeyQueue
from contrast.errors import InputError


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=8))
def test_first_in_first_out_with_wrap_round(size: int, batches: list[int]) -> None:
    queue = KeyQueue(width=3, size=size)
    start = queue.keys.clone()
    slots: list[tuple[torch.Tensor, int]] = [(row, -1) for row in start]
    place = written = 0
    for number, count in enumerate(min(batch, size) for batch in batches):
        keys, index = torch.randn(count, 3), torch.arange(count) + 100 * number
        queue.store(keys, index)
        for key, which in zip(keys, index, strict=True):
            slots[place] = (key, int(which))
            place, written = (place + 1) % size, written + 1
    offered = queue.negatives(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    assert torch.equal(offered.keys, torch.stack([row for row, _ in slots]))
    assert offered.index.tolist() == [which for _, which in slots]
    assert queue.filled.item() == min(written, size)


def test_starts_as_unit_rows_of_unknown_sample_and_is_all_in_the_checkpoint() -> None:
    queue = KeyQueue(width=8, size=16, seed=3)
    torch.testing.assert_close(queue.keys.norm(dim=-1), torch.ones(16))
    assert (queue.index == -1).all()
    queue.store(torch.randn(5, 8), torch.arange(5))
    other = KeyQueue(width=8, size=16)
    assert not torch.equal(other.keys, queue.keys)
    other.load_state_dict(queue.state_dict())
    for name, buffer in queue.named_buffers():
        assert torch.equal(buffer, dict(other.named_buffers())[name]), name


def test_rows_of_the_random_start_are_placeholders_until_keys_replace_them() -> None:
    queue, nothing = KeyQueue(width=2, size=5), torch.zeros(1, dtype=torch.int64)
    seen = []
    for count in (0, 2, 2, 3, 1):
        queue.store(torch.ones(count, 2), torch.arange(count))
        offered = queue.negatives(torch.zeros(1, 2), nothing)
        assert torch.equal(offered.placeholder, offered.index == -1)
        seen.append(offered.placeholder.tolist())
    assert [sum(each) for each in seen] == [5, 3, 1, 0, 0]
    assert seen[1] == [False, False, True, True, True]


def test_keys_of_no_known_sample_are_no_placeholders() -> None:
    queue = KeyQueue(width=2, size=3)
    queue.store(torch.ones(2, 2), torch.tensor([-1, 4]))
    offered = queue.negatives(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert offered.placeholder.tolist() == [False, False, True]


def test_a_batch_larger_than_the_queue_is_refused() -> None:
    with pytest.raises(InputError, match="batch of 5 keys does not fit a queue of 4"):
        KeyQueue(2, 4).store(torch.zeros(5, 2), torch.arange(5))
