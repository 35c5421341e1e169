"""MoCo key queue: the newest keys, first in, first out."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.banks.bank import MemoryBank, Negatives, renumbered
from contrast.checks import checked
from contrast.distributed import gather_detached
from contrast.errors import InputError
from contrast.pairs import UNKNOWN
from contrast.randomness import Purpose, seed_from

__all__ = ["KeyQueue"]


class KeyQueue(MemoryBank):
    """MoCo key queue: a first-in-first-out memory bank of the newest keys of all processes.

    The queue starts with random unit rows of unknown sample. They are offered and counted like other rows, as in the
    authors' code. `filled` is the number of rows that hold a real key; the other rows are marked as placeholders. A
    batch that reaches the end of the queue continues at its start.

    Args:
        width: d, width of the embeddings.
        size: K, number of rows. Keep it well below the number of training samples: 4,096 for CIFAR, 65,536 for
            ImageNet.
        seed: seed of the random start.

    Raises:
        InputError: where `width` or `size` is below 1, the training set has no more samples than the queue has rows, or
            a batch of all processes has more rows than the queue.

    Source: MoCo, He et al., CVPR 2020, arXiv 1911.05722, section 3.2.

    Example:
        >>> queue = KeyQueue(width=2, size=3)
        >>> queue.store(torch.eye(2), torch.tensor([5, 6]))
        >>> queue.negatives(torch.eye(2), torch.tensor([5, 6])).index
        tensor([ 5,  6, -1])
    """

    keys: Tensor
    index: Tensor
    written: Tensor
    steps: Tensor
    pointer: Tensor
    filled: Tensor

    @checked
    def __init__(self, width: int, size: int = 65536, seed: int = 0) -> None:
        super().__init__()
        if width < 1 or size < 1:
            raise InputError(f"KeyQueue needs width and size above 0, not width={width} size={size}")
        self.size = size
        generator = torch.Generator().manual_seed(seed_from(seed, Purpose.QUEUE))
        start = torch.randn(size, width, generator=generator)
        self.register_buffer("keys", torch.nn.functional.normalize(start, dim=-1))
        self.register_buffer("index", torch.full((size,), UNKNOWN))
        self.register_buffer("written", torch.full((size,), -1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def begin(self, samples: int | None) -> None:
        if samples is not None and self.size >= samples:
            raise InputError(
                f"a memory bank of {self.size} keys is not smaller than the data set of {samples} samples, so it would "
                f"hold each query's own sample: set --model.bank.size below {samples}, or take FaissBank, which "
                "excludes own samples at any size"
            )

    @checked
    def negatives(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> Negatives:
        place = torch.arange(self.size, device=self.filled.device)
        age = torch.where(self.written < 0, -1, self.steps - self.written)
        return Negatives(self.keys, self.index, placeholder=place >= self.filled, age=age)

    def stored(self) -> tuple[Tensor, Tensor]:
        filled = int(self.filled)
        return self.keys[:filled], self.index[:filled]

    def filled_rows(self) -> int:
        return int(self.filled)

    def about(self, row: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        return self.index[row], self.written[row]

    @torch.no_grad()
    @checked
    def store(self, keys: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        keys, index = gather_detached(keys), gather_detached(index)
        if len(keys) > self.size:
            raise InputError(
                f"a batch of {len(keys)} keys does not fit a queue of {self.size}: raise the queue's size or lower "
                "data.batch_size"
            )
        place = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.size
        self.keys[place] = keys.to(self.keys.dtype)
        self.index[place] = index
        self.written[place] = self.steps
        self.steps.add_(1)
        self.pointer.add_(len(keys)).remainder_(self.size)
        self.filled.add_(len(keys)).clamp_(max=self.size)

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        state[prefix + "index"] = renumbered(state[prefix + "index"], new_of)

    def extra_repr(self) -> str:
        return f"width={self.keys.shape[1]}, size={self.size}"
