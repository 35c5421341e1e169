"""Rows of past keys with the sample and the step that each is of."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from contrast.banks.bank import renumbered
from contrast.checks import checked
from contrast.distributed import gather_detached, rank, world_size
from contrast.errors import InputError
from contrast.pairs import UNKNOWN

__all__ = ["KeyStore", "Storage"]

Storage = Literal["float32", "float16"]
_GIB = 1 << 30


class KeyStore(nn.Module):
    """`size` rows, first in first out, or one for each sample, in buffers that are all in the checkpoint.

    Rows are taken in turn, so that those written are ``keys[:filled]``. First in first out, the oldest row is replaced
    once all are taken; with `per_sample` a sample's next key replaces its last one and no row is ever needed twice.

    Args:
        width: d of a key.
        size: rows; with `per_sample` at least the number of samples.
        per_sample: the newest key of each sample, in place of the newest keys.
        storage: what keys are rounded to; half precision halves memory and checkpoint.
        budget_gib: what the rows may take, in memory and again in each checkpoint, in GiB.
        sharded: whether each process keeps every so-manieth row alone, once `share_out` was called.

    Attributes:
        keys: (size, d), or this process's part of them; rows from `filled` on are zeros.
        parts: how many processes share the keys; row r is the process's whose rank is r modulo that.
        index: (size,), which sample each is of; -1 where it is unknown or there is no key yet.
        written: (size,), the step at which each was written; -1 where there is none.
        filled: how many rows hold a key.

    Raises:
        InputError: where size or width is below 1, or the rows pass the budget.

    Example:
        >>> store = KeyStore(width=2, size=3)
        >>> store.write(torch.eye(2), torch.tensor([5, 6]), step=0)
        >>> store.index.tolist(), store.filled.item()
        ([5, 6, -1], 2)
    """

    keys: Tensor
    index: Tensor
    written: Tensor
    pointer: Tensor
    filled: Tensor
    row_of: Tensor

    @checked
    def __init__(
        self,
        width: int,
        size: int,
        per_sample: bool = False,
        storage: Storage = "float32",
        budget_gib: float = 4.0,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        if width < 1 or size < 1:
            raise InputError(f"a bank needs width and size above 0, not width={width} size={size}")
        self.size, self.per_sample, self.sharded = size, per_sample, sharded
        self.parts, self.part = 1, 0
        dtype = {"float32": torch.float32, "float16": torch.float16}[storage]
        _require_within(size, width, dtype, budget_gib)
        self.register_buffer("keys", torch.zeros(size, width, dtype=dtype))
        self.register_buffer("index", torch.full((size,), UNKNOWN))
        self.register_buffer("written", torch.full((size,), -1))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        if per_sample:
            self.register_buffer("row_of", torch.full((size,), -1))
        else:
            self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    @checked
    def write(self, keys: Float[Tensor, "b d"], index: Int[Tensor, " b"], step: int) -> None:
        """Write keys of these samples.

        Raises:
            InputError: for a key that is not finite, naming its sample; more keys than rows; and, with one row a
                sample, a sample that is unknown or beyond the rows.
        """
        _require_finite(keys, index)
        if self.per_sample:
            keys, index, row = self._rows_of_samples(keys, index)
        else:
            row = self._next_rows(len(keys))
        mine = row % self.parts == self.part
        self.keys[row[mine] // self.parts] = keys[mine].to(self.keys.dtype)
        self.index[row] = index
        self.written[row] = step

    def share_out(self) -> None:
        """Keep this process's rows alone, if the store is sharded; before any is written, or after a load."""
        if self.sharded and self.parts == 1 < world_size():
            self.parts, self.part = world_size(), rank()
            self.keys = self.keys[self.part :: self.parts].clone()

    def held(self) -> tuple[Tensor, Tensor]:
        """This process's rows that hold a key, and which sample each is of."""
        filled = int(self.filled)
        index = self.index[self.part : filled : self.parts]
        return self.keys[: len(index)], index

    def at(self, row: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """The keys of these rows, out of all processes; row 0's where a row is -1."""
        row = row.clamp(min=0)
        if self.parts == 1:
            return self.keys[row]
        counts = gather_detached(torch.tensor([len(row)], device=row.device)).tolist()
        for asking, wanted in enumerate(torch.split(gather_detached(row), counts)):
            mine = (wanted % self.parts == self.part)[..., None]
            found = torch.where(mine, self.keys[torch.where(mine[..., 0], wanted // self.parts, 0)].float(), 0.0)
            dist.reduce(found, dst=asking)
            if asking == self.part:
                keys = found
        return keys

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """All processes' rows in the first one's state, so that a run may go on with another number of them."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.parts > 1:
            most = -(-self.size // self.parts)
            padded = torch.nn.functional.pad(self.keys, (0, 0, 0, most - len(self.keys)))
            parts = [torch.empty_like(padded) for _ in range(self.parts)] if self.part == 0 else None
            dist.gather(padded, parts, dst=0)
            if parts is not None:
                destination[prefix + "keys"] = torch.stack(parts, dim=1).flatten(0, 1)[: self.size]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        name = prefix + "keys"
        if self.parts > 1 and name in state_dict and len(state_dict[name]) == self.size:
            state_dict[name] = state_dict[name][self.part :: self.parts]
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        """Number the samples in a stored state as other data do.

        First in first out, the keys of samples that are gone are of no known one. With one row a sample their rows go,
        and the state becomes of this store's size.

        Raises:
            InputError: where there are more samples than rows.
        """
        index = renumbered(state[prefix + "index"], new_of)
        if not self.per_sample:
            state[prefix + "index"] = index
            return
        if len(old_of) > self.size:
            raise InputError(
                f"one row a sample needs {len(old_of)} rows, and the bank has {self.size}: set --model.bank.size "
                f"{len(old_of)}"
            )
        kept = (index[: int(state[prefix + "filled"])] >= 0).nonzero().flatten()
        start = {"keys": 0.0, "index": UNKNOWN, "written": -1}
        state[prefix + "index"] = index
        for name, value in start.items():
            old = state[prefix + name]
            state[prefix + name] = old.new_full((self.size, *old.shape[1:]), value)
            state[prefix + name][: len(kept)] = old[kept]
        state[prefix + "row_of"] = torch.full((self.size,), -1)
        state[prefix + "row_of"][index[kept]] = torch.arange(len(kept))
        state[prefix + "filled"] = torch.tensor(len(kept))

    def _next_rows(self, count: int) -> Tensor:
        if count > self.size:
            raise InputError(
                f"a batch of {count} keys does not fit a bank of {self.size}: raise the bank's size or lower "
                "data.batch_size"
            )
        row = (self.pointer + torch.arange(count, device=self.pointer.device)) % self.size
        self.pointer.add_(count).remainder_(self.size)
        self.filled.add_(count).clamp_(max=self.size)
        return row

    def _rows_of_samples(self, keys: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for wrong in index[(index < 0) | (index >= self.size)][:1].tolist():
            raise InputError(
                f"one row a sample has no place for sample {wrong} in a bank of {self.size} rows: set "
                "--model.bank.size to the number of training samples"
            )
        # The last key of a sample that the batch has twice: what an assignment keeps is not defined.
        samples, inverse = torch.unique(index, return_inverse=True)
        place = torch.arange(len(index), device=index.device)
        last = torch.zeros_like(samples).scatter_reduce_(0, inverse, place, "amax")
        row = self.row_of[samples]
        fresh = row < 0
        row[fresh] = self.filled + torch.arange(int(fresh.sum()), device=row.device)
        self.row_of[samples] = row
        self.filled.add_(fresh.sum())
        return keys[last], samples, row

    def extra_repr(self) -> str:
        kind = "one a sample" if self.per_sample else "first in first out"
        return f"size={self.size}, width={self.keys.shape[1]}, {kind}, {str(self.keys.dtype).removeprefix('torch.')}"


def _require_within(size: int, width: int, dtype: torch.dtype, budget_gib: float) -> None:
    needed = size * width * dtype.itemsize / _GIB
    if needed > budget_gib:
        name = str(dtype).removeprefix("torch.")
        smaller = ", storage: float16 for half" if dtype == torch.float32 else ""
        raise InputError(
            f"a bank of {size:,} rows x {width} in {name} takes {needed:.2f} GiB, of memory and of every checkpoint, "
            f"and budget_gib is {budget_gib:g}: raise it or set a smaller size{smaller}"
        )


def _require_finite(keys: Tensor, index: Tensor) -> None:
    if torch.isfinite(keys.sum()):  # only a sum that is not needs the slow answer
        return
    finite = torch.isfinite(keys).all(dim=1)
    for sample in index[~finite][:1].tolist():
        raise InputError(f"the key of sample {sample} holds NaN or infinity: lower the rate, or check its input")
