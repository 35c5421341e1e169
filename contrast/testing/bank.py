"""Check of memory banks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from contrast.banks import MemoryBank
from contrast.checks import checked
from contrast.errors import InputError
from contrast.pairs import UNKNOWN, Negatives
from contrast.testing.assertions import equal, require, same, unit_rows

__all__ = ["check_bank"]

_QUERIES, _WIDTH = 6, 8


@checked
def check_bank(make: Callable[[int], MemoryBank]) -> None:
    """Check a memory bank: rows keep their samples, reading writes nothing, and all state is in the checkpoint.

    Args:
        make: makes the bank from the width of the embeddings, such as ``partial(KeyQueue, size=16)``. Give a bank of
            about 16 rows: 44 keys are stored, so that a small bank overwrites its oldest keys.

    Raises:
        AssertionError: for the first property that does not hold.
        InputError: for a bank in place of what makes it.

    Example:
        >>> from functools import partial
        >>> from contrast.banks import KeyQueue
        >>> check_bank(partial(KeyQueue, size=16))
    """
    if isinstance(make, MemoryBank):
        raise InputError(
            f"check_bank makes banks itself, and got one: give partial({type(make).__name__}, size=16), without width"
        )
    bank = make(_WIDTH)
    name, known = type(bank).__name__, unit_rows(0, 48, _WIDTH).float()
    bank.begin(None)
    query, index = unit_rows(1, _QUERIES, _WIDTH).float(), torch.arange(34, 34 + _QUERIES)
    start = bank.negatives(query, index)
    real = len(start.index) if start.placeholder is None else int((~start.placeholder).sum())
    require(
        bank.filled_rows() == 0 and real == 0,
        f"{name} without keys has {bank.filled_rows()} filled rows and offers {real} rows that are not placeholders: "
        "mark the rows of the start in Negatives.placeholder",
    )
    for first in range(0, 40, 4):
        keys = known[first : first + 4].clone()
        bank.store(keys, torch.arange(first, first + 4))
        keys.zero_()  # a bank that keeps the tensor instead of a copy now holds zeros
    _check_rows(name, bank, known)
    before = copy.deepcopy(bank.state_dict())
    offered = bank.negatives(query, index)
    require(
        equal(before, bank.state_dict()),
        f"{name}.negatives changes the bank's state: observers ask too, so only store may write",
    )
    _check_offered(name, offered, index, known)
    few = [2, 0, 5]
    again = bank.negatives(query[few], index[few])
    for part in ("keys", "index", "own", "own_index"):
        found, whole = getattr(again, part), getattr(offered, part)
        whole = whole[few] if part.startswith("own") and whole is not None else whole
        require(
            (found is None and whole is None) or equal(found, whole),
            f"{name} offers a query other rows in another batch (Negatives.{part}): choose rows by the query, its "
            "sample and the step, not by its place",
        )
    restored = make(_WIDTH)
    restored.begin(None)
    try:
        restored.load_state_dict(bank.state_dict())
    except RuntimeError as error:
        raise AssertionError(
            f"{name} cannot load its own state into a new bank: make all buffers in __init__ in their full size"
        ) from error
    for each in (bank, restored):
        each.store(known[40:44], torch.arange(40, 44))
    require(
        equal(bank.state_dict(), restored.state_dict())
        and equal(vars(bank.negatives(query, index)), vars(restored.negatives(query, index))),
        f"{name} goes on differently after its state was loaded: keep all state in buffers, pointers and counts too",
    )
    if bank.recall_at == 0:
        keys, of = bank.stored()
        score = (query @ keys.float().T).masked_fill(of == index[:, None], -torch.inf)
        count = min(5, len(keys) - 1)
        same(
            bank.neighbours(query, index, count).score,
            score.topk(count).values,
            f"{name}.neighbours differs from an exact search without own samples by {{:.2g}}: set recall_at and define "
            "recall if the search is approximate",
            tolerance=1e-3,
        )


def _check_rows(name: str, bank: MemoryBank, known: Tensor) -> None:
    keys, of = bank.stored()
    require(
        len(keys) == len(of) == bank.filled_rows() > 0,
        f"{name}.stored() has {len(keys)} keys of {len(of)} samples, and filled_rows() is {bank.filled_rows()}: they "
        "count the same rows",
    )
    same(
        keys.float(),
        known[of],
        f"{name} holds a key that is not the one stored for its sample, off by {{:.2g}}: copy keys in store, and move "
        "keys and samples together",
        tolerance=1e-2,
    )
    row = torch.arange(len(keys))
    require(
        torch.equal(bank.about(row)[0], of) and equal(bank.keys_at(row[None])[0], keys),
        f"{name}: about() and keys_at() describe other rows than stored(): number rows as stored() does",
    )


def _check_offered(name: str, offered: Negatives, index: Tensor, known: Tensor) -> None:
    parts = [(offered.keys, offered.index)]
    if offered.own is not None and offered.own_index is not None:
        parts.append((offered.own, offered.own_index))
    for rows, of in parts:
        nearest = (rows[of == UNKNOWN].float() @ known[index].T).amax() if bool((of == UNKNOWN).any()) else 0.0
        require(
            float(nearest) < 0.999,
            f"{name} offers a query its own key as a row of unknown sample (score {float(nearest):.3f}): give the "
            "sample of each row, by which the loss excludes the query's own",
        )
        require(not rows.requires_grad, f"{name} offers rows with gradient: keys are stored and offered without")
        there = of >= 0
        same(
            rows[there].float(),
            known[of[there]],
            f"{name} offers a row under the number of another sample, off by {{:.2g}}: index rows and samples together",
            tolerance=1e-2,
        )
