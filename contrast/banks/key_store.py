"""Storage of past keys with the sample and the step of each."""

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
    """Key storage with `size` rows, first in, first out, or one row per sample; all buffers are in the checkpoint.

    Rows are filled in order, so the written rows are ``keys[:filled]``. First in, first out: once all rows are filled,
    the oldest row is replaced. With `per_sample` a sample's next key replaces its previous key, so a row always belongs
    to the same sample.

    Args:
        width: d, width of a key.
        size: number of rows; with `per_sample` at least the number of samples.
        per_sample: keep the newest key of each sample, instead of the newest keys.
        storage: dtype in which keys are stored; half precision halves memory and checkpoint.
        budget_gib: limit on the size of the rows, in GiB. Rows take this much in memory, and again in each checkpoint.
        sharded: whether each process keeps only every `world_size`-th row, once `share_out` was called.

    Attributes:
        keys: stored keys, (size, d), or this process's shard of them; rows from `filled` on are zeros.
        parts: number of shards. Row r is stored by the process whose rank is r modulo `parts`.
        index: sample of each row, int64, (size,); -1 where it is unknown or the row is empty.
        written: step at which each row was written, int64, (size,); -1 where the row is empty.
        filled: number of rows that hold a key, int64 scalar.

    Raises:
        InputError: where `size` or `width` is below 1, or the rows exceed the budget.

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
        """Write the keys of these samples into the store.

        Args:
            keys: keys to store, (b, d).
            index: sample of each key, (b,).
            step: number of the step, from 0.

        Raises:
            InputError: where a key is not finite (the message names its sample), there are more keys than rows, or,
                with one row per sample, a sample is unknown or beyond the last row.
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
        """Shard the rows: keep only this process's rows, if the store is sharded.

        Call it before the first write, or after a load.
        """
        if self.sharded and self.parts == 1 < world_size():
            self.parts, self.part = world_size(), rank()
            self.keys = self.keys[self.part :: self.parts].clone()

    def held(self) -> tuple[Tensor, Tensor]:
        """This process's rows that hold a key, and the sample of each."""
        filled = int(self.filled)
        index = self.index[self.part : filled : self.parts]
        return self.keys[: len(index)], index

    def at(self, row: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Keys of these rows from the shards of all processes; row 0's key where a row is -1.

        Args:
            row: global row numbers, (b, n).
        """
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
        """Gather the rows of all processes into rank 0's state.

        A run can then resume with another number of processes.
        """
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
        """Renumber the samples in a stored state after the data set changed.

        In a first-in-first-out store, keys of removed samples become keys of unknown sample. With one row per sample,
        the rows of removed samples are deleted and the state is resized to this store's size.

        Args:
            state: state dict of a whole method, changed in place.
            prefix: prefix of this store's entries.
            old_of: for each sample of the new data, its number in the old data; -1 for a new sample.
            new_of: for each sample of the old data, its number in the new data; -1 for a removed sample.

        Raises:
            InputError: where, with one row per sample, the new data have more samples than the store has rows.
        """
        index = renumbered(state[prefix + "index"], new_of)
        if not self.per_sample:
            state[prefix + "index"] = index
            return
        if len(old_of) > self.size:
            raise InputError(
                f"one row per sample needs {len(old_of)} rows, and the bank has {self.size}: set --model.bank.size "
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
                f"one row per sample has no place for sample {wrong} in a bank of {self.size} rows: set "
                "--model.bank.size to the number of training samples"
            )
        # If a batch has a sample twice, keep its last key: indexed assignment with duplicates is undefined.
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
        kind = "one per sample" if self.per_sample else "first in, first out"
        return f"size={self.size}, width={self.keys.shape[1]}, {kind}, {str(self.keys.dtype).removeprefix('torch.')}"


def _require_within(size: int, width: int, dtype: torch.dtype, budget_gib: float) -> None:
    needed = size * width * dtype.itemsize / _GIB
    if needed > budget_gib:
        name = str(dtype).removeprefix("torch.")
        smaller = ", storage: float16 for half" if dtype == torch.float32 else ""
        raise InputError(
            f"a bank of {size:,} rows x {width} in {name} takes {needed:.2f} GiB in memory and in every checkpoint, "
            f"and budget_gib is {budget_gib:g}: raise it or set a smaller size{smaller}"
        )


def _require_finite(keys: Tensor, index: Tensor) -> None:
    if torch.isfinite(keys.sum()):  # fast path: look for the bad key only if the sum is not finite
        return
    finite = torch.isfinite(keys).all(dim=1)
    for sample in index[~finite][:1].tolist():
        raise InputError(f"the key of sample {sample} holds NaN or infinity: lower the rate, or check its input")
