"""Memory bank searched by FAISS for the hardest negatives of each query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from contrast.banks.approximate import Approximate, ApproximateSearch
from contrast.banks.bank import MemoryBank, Negatives, Neighbours, SearchOf, nearest_of_others
from contrast.banks.key_store import KeyStore, Storage
from contrast.checks import checked
from contrast.distributed import gather_detached
from contrast.errors import InputError, counted
from contrast.pairs import NOT_OFFERED, UNKNOWN
from contrast.randomness import Purpose, seed_from, uniform
from contrast.runs.length import RunLength
from contrast.search.exact import BUDGET_MIB, nearest

__all__ = ["FaissBank", "Hardest", "Mining", "Stratified"]

Search = Callable[[int], Tensor]
"""Function from k to each query's k nearest rows, (b, k), best first; missing rows are -1."""


class Mining(ABC):
    """Hard-negative mining: chooses which rows of the bank a query is offered.

    The `search` function of `choose` never returns rows of the query's own sample.
    Attributes:
        count: number of rows per query.
    """

    count: int

    @abstractmethod
    def choose(
        self, search: Search, filled: int, index: Int[Tensor, " b"], seed: int, step: int
    ) -> Int[Tensor, "b {self.count}"]:
        """Choose rows for a batch of queries; -1 marks an empty place.

        Args:
            search: top-k search for these queries.
            filled: number of rows in the bank that hold a key.
            index: sample of each query, (b,).
            seed: seed of random draws.
            step: number of the step, from 0.
        """


class Hardest(Mining):
    """Mine the k hardest negatives: the `count` nearest rows.

    Args:
        count: k, rows per query.

    Raises:
        InputError: where `count` is below 1.
    """

    @checked
    def __init__(self, count: int = 1024) -> None:
        if count < 1:
            raise InputError(f"Hardest's count {count} leaves queries without negatives: give at least 1")
        self.count = count

    def choose(self, search: Search, filled: int, index: Tensor, seed: int, step: int) -> Tensor:
        return search(self.count)

    def __repr__(self) -> str:
        return f"Hardest({self.count})"


class Stratified(Mining):
    """Mine fixed numbers of hardest, semi-hard and random negatives.

    Semi-hard rows are drawn without replacement from ranks `hardest` + 1 to `pool`. Random rows are drawn with
    replacement from the whole bank, so they may repeat the other rows. Draws depend only on (seed, step, sample): both
    views of a sample draw the same ranks.

    Args:
        hardest: number of nearest rows.
        semi_hard: number of rows drawn from the ranks below the hardest.
        random: number of rows drawn from the whole bank.
        pool: last rank from which a semi-hard row is drawn.

    Raises:
        InputError: where a number is negative, all three are 0, or `pool` is below `hardest` + `semi_hard`.
    """

    @checked
    def __init__(self, hardest: int = 256, semi_hard: int = 256, random: int = 512, pool: int = 4096) -> None:
        if min(hardest, semi_hard, random) < 0 or hardest + semi_hard + random < 1:
            raise InputError(
                f"Stratified's {hardest} hardest, {semi_hard} semi-hard and {random} random rows: give numbers of at "
                "least 0, with one above 0"
            )
        if semi_hard and pool < hardest + semi_hard:
            raise InputError(
                f"Stratified's pool {pool} is below its {hardest} hardest and {semi_hard} semi-hard rows: give at "
                f"least {hardest + semi_hard}"
            )
        self.count = hardest + semi_hard + random
        self.hardest, self.semi_hard, self.random, self.pool = hardest, semi_hard, random, pool

    def choose(self, search: Search, filled: int, index: Tensor, seed: int, step: int) -> Tensor:
        keys = (seed, step, Purpose.BANK_MINING)
        chosen = []
        if self.hardest + self.semi_hard:
            nearest = search(self.pool if self.semi_hard else self.hardest)
            chosen.append(nearest[:, : self.hardest])
            rest = nearest[:, self.hardest :]
            draws = uniform((*keys, 0), index, rest.shape[1]).masked_fill(rest < 0, torch.inf)
            chosen.append(rest.gather(1, draws.argsort(dim=1)[:, : self.semi_hard]))
        chosen.append((uniform((*keys, 1), index, self.random).double() * filled).long())
        return torch.cat(chosen, dim=1)

    def __repr__(self) -> str:
        drawn = f"hardest={self.hardest}, semi_hard={self.semi_hard}, random={self.random}, pool={self.pool}"
        return f"Stratified({drawn})"


class FaissBank(MemoryBank):
    """Memory bank with hard-negative mining: each query is offered its nearest stored keys, found by FAISS.

    ``negatives(q) = top-k { k_j : q · k_j, j not of q's sample }``

    The search is exact by default, and another `Mining` may choose other rows. During the first `warmup_steps` steps,
    rows are drawn at random, the same for all queries, as many as mining would offer. Before the first keys are stored,
    the bank offers random unit rows. With several processes the bank holds the keys of all of them.

    Args:
        width: d, width of the embeddings.
        size: number of rows.
        per_sample: keep the newest key of each sample, instead of the newest keys.
        mining: which rows a query is offered. Default: the 1,024 nearest rows.
        warmup_steps: number of steps with random rows instead of mined rows.
        storage: dtype in which keys are stored.
        budget_gib: limit on the size of the rows, in GiB. Rows take this much in memory, and again in each checkpoint.
        sharded: whether each process keeps and searches only its shard of the rows. Default: every process keeps all
            rows.
        seed: seed of random draws. In a configuration it defaults to the run's seed.
        search_mib: limit on the memory of one search, besides queries and keys, in MiB.
        approximate: approximate search for a bank that is too large for exact search. Default: exact search.

    Raises:
        InputError: where a size is below 1, the rows exceed `budget_gib`, a search exceeds `search_mib`, a key is not
            finite, `warmup_steps` is negative, or the bank is sharded and the approximate search does not support
            shards.

    Source: the search is FAISS's, Douze et al., arXiv 2401.08281; hard negatives out of a large store follow ANCE,
    Xiong et al., ICLR 2021, arXiv 2007.00808.

    Example:
        >>> bank = FaissBank(width=2, size=4, mining=Hardest(2))
        >>> bank.store(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]]), torch.tensor([5, 6, 7]))
        >>> bank.negatives(torch.tensor([[1.0, 0.0]]), torch.tensor([5])).own_index
        tensor([[7, 6]])
    """

    steps: Tensor

    @checked
    def __init__(
        self,
        width: int,
        size: int = 65536,
        per_sample: bool = False,
        mining: Mining | None = None,
        warmup_steps: int = 0,
        storage: Storage = "float32",
        budget_gib: float = 4.0,
        sharded: bool = False,
        seed: int = 0,
        search_mib: float = BUDGET_MIB,
        approximate: Approximate | None = None,
    ) -> None:
        super().__init__()
        if warmup_steps < 0:
            raise InputError(f"FaissBank's warmup_steps {warmup_steps} is negative: give 0 or more")
        if sharded and approximate is not None and not approximate.of_parts:
            raise InputError(
                f"{type(approximate).__name__} over sharded keys would find other rows with another number of "
                "processes: take --model.bank.approximate IVF, or sharded: false"
            )
        self.rows = KeyStore(width, size, per_sample, storage, budget_gib, sharded)
        self.size, self.seed, self.warmup_steps = size, seed, warmup_steps
        self.mining, self.search_mib = mining or Hardest(), search_mib
        self.approximate = None if approximate is None else ApproximateSearch(approximate, seed)
        self.recall_at = 0 if approximate is None else self.mining.count
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def begin(self, samples: int | None) -> None:
        if self.rows.per_sample and samples is not None and self.size < samples:
            raise InputError(
                f"one row per sample needs {samples} rows, and the bank has {self.size}: "
                f"set --model.bank.size {samples}"
            )
        self.rows.share_out()

    def never_acts(self, run: RunLength) -> str | None:
        if self.warmup_steps >= run.steps:
            return (
                f"FaissBank mines from step {self.warmup_steps:,} and this run has "
                f"{counted(run.steps, 'step')}: queries will only get random rows"
            )
        filled = min(self.size, run.steps * run.samples_per_step)
        if self.approximate is not None and filled <= self.approximate.settings.above:
            return (
                f"{type(self.approximate.settings).__name__} searches above {self.approximate.settings.above:,} keys "
                f"and this run fills at most {filled:,}: every search will be exact"
            )
        return None if self.rows.per_sample else super().never_acts(run)

    def stored(self) -> tuple[Tensor, Tensor]:
        return self.rows.held()

    def filled_rows(self) -> int:
        return int(self.rows.filled)

    def about(self, row: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        return self.rows.index[row], self.rows.written[row]

    @torch.no_grad()
    def neighbours(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"], count: int) -> Neighbours:
        return self._neighbours(query, index, count, self._search)

    @torch.no_grad()
    def recall(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"], count: int) -> float | None:
        if self.approximate is None or int(self.approximate.used) < 0 or query.is_cuda:
            return None
        found = self.neighbours(query, index, count).row
        exact = self._neighbours(query, index, count, self._exact).row
        hits = (found[:, :, None] == exact[:, None]) & (exact >= 0)[:, None]
        return float(hits.sum() / (exact >= 0).sum().clamp(min=1))

    def _neighbours(self, query: Tensor, index: Tensor, count: int, search: SearchOf) -> Neighbours:
        parts = self.rows.parts
        if parts == 1:
            return nearest_of_others(query, index, *self.stored(), count, search)
        counts = gather_detached(torch.tensor([len(query)], device=query.device)).tolist()
        found = nearest_of_others(gather_detached(query), gather_detached(index), *self.stored(), count, search)
        row = torch.where(found.row < 0, -1, found.row * parts + self.rows.part)
        # Gathered shape: (shard, queries of all ranks, count). Keep this rank's queries, then take the best over all
        # shards.
        score, row = (gather_detached(each[None]) for each in (found.score, row))
        mine = slice(sum(counts[: self.rows.part]), sum(counts[: self.rows.part + 1]))
        score, row = (each[:, mine].movedim(0, 1).flatten(1) for each in (score, row))
        best, place = score.topk(count, dim=1)
        return Neighbours(best, row.gather(1, place))

    def _search(self, query: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
        found = None if self.approximate is None else self.approximate.search(self.rows, query, count)
        return self._exact(query, keys, count) if found is None else found

    def _exact(self, query: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return nearest(query, keys, count, budget_mib=self.search_mib)

    def keys_at(self, row: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        return self.rows.at(row)

    @torch.no_grad()
    @checked
    def negatives(self, query: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> Negatives:
        step, filled = int(self.steps), int(self.rows.filled)
        if not filled:
            return self._start(query)
        if step < self.warmup_steps:
            return self._drawn(step, filled, query)
        search = partial(self._nearest_rows, query, index)
        row = self.mining.choose(search, filled, index, self.seed, step)
        own = self.keys_at(row).to(query.dtype)
        own_index = torch.where(row < 0, NOT_OFFERED, self.rows.index[row.clamp(min=0)])
        own_age = torch.where(row < 0, -1, step - self.rows.written[row.clamp(min=0)])
        nothing = query.new_zeros((0, query.shape[1]))
        return Negatives(nothing, index.new_zeros(0), own=own, own_index=own_index, own_age=own_age)

    @torch.no_grad()
    @checked
    def store(self, keys: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> None:
        self.rows.write(gather_detached(keys), gather_detached(index), int(self.steps))
        if self.approximate is not None:
            self.approximate.follow(self.rows, int(self.steps))
        self.steps.add_(1)

    def move_samples(
        self, state: dict[str, Tensor], prefix: str, old_of: Int[Tensor, " m"], new_of: Int[Tensor, " n"]
    ) -> None:
        """Discard an approximate index whose rows have moved; `KeyStore.move_samples` moves the rows themselves."""
        if self.approximate is not None and self.rows.per_sample:
            self.approximate.forget(state, f"{prefix}approximate.")

    def extra_repr(self) -> str:
        return f"mining={self.mining}, warmup_steps={self.warmup_steps}"

    def _nearest_rows(self, query: Tensor, index: Tensor, count: int) -> Tensor:
        return self.neighbours(query, index, count).row

    def _start(self, query: Tensor) -> Negatives:
        generator = torch.Generator().manual_seed(seed_from(self.seed, Purpose.QUEUE))
        start = torch.randn(self.mining.count, query.shape[1], generator=generator).to(query)
        unknown = torch.full((len(start),), UNKNOWN, device=query.device)
        return Negatives(torch.nn.functional.normalize(start, dim=-1), unknown, placeholder=unknown == UNKNOWN)

    def _drawn(self, step: int, filled: int, query: Tensor) -> Negatives:
        """Random rows, the same for all queries: as many as mining would offer, or all rows while there are fewer."""
        key, everyone = (self.seed, step, Purpose.BANK_MINING, 2), torch.zeros(1, dtype=torch.int64)
        draws = uniform(key, everyone.to(query.device), self.mining.count)[0]
        row = (draws.double() * filled).long() if filled > self.mining.count else torch.arange(filled).to(query.device)
        keys, age = self.keys_at(row[None])[0].to(query.dtype), step - self.rows.written[row]
        return Negatives(keys, self.rows.index[row], age=age)
