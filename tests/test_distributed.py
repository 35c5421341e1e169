"""Gathering by itself: order, numbers of rows, types and gradients; what losses make of it is in tests/methods."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from contrast.distributed import gather, gather_detached, global_mean, rank, world_size
from contrast.pairs import in_batch_pairs

ROWS = (2, 3)
"""Rows of each rank: different numbers."""


def rows_of(process: int) -> torch.Tensor:
    start = sum(ROWS[:process])
    return torch.arange(start, start + ROWS[process], dtype=torch.float64)[:, None] * torch.tensor([1.0, 10.0]) + 1


def weight_of(process: int) -> torch.Tensor:
    """What each rank asks of each row of all: different on every rank."""
    return torch.arange(sum(ROWS) * 2, dtype=torch.float64).view(-1, 2) ** (process + 1)


def look(process: int) -> dict[str, Any]:
    rows = rows_of(process).requires_grad_()
    gathered = gather(rows)
    (gathered * weight_of(process)).sum().backward()
    values = rows_of(process)[:, 0].clone().requires_grad_()
    mean = global_mean(values)
    mean.backward()
    heads = torch.stack([rows_of(process), -rows_of(process)])
    pairs = in_batch_pairs(heads, heads + 0.5, torch.arange(ROWS[process]) + 10 * process)
    return {
        "place": (rank(), world_size()),
        "gathered": gathered.detach(),
        "gradient": rows.grad,
        "whole numbers": gather_detached(torch.full((ROWS[process],), process)),
        "truths": gather_detached(torch.full((process, 1), True)),  # none on the first rank
        "detached": gather_detached(rows).requires_grad,
        "mean": mean.detach(),
        "mean's gradient": values.grad,
        "negatives": pairs.negatives,
        "negative_index": pairs.negative_index,
    }


def work(process: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=process, world_size=len(ROWS))
    torch.save(look(process), f"{folder}/{process}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process saw."""
    folder: Path = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=len(ROWS))
    return [torch.load(folder / f"{process}.pt", weights_only=True) for process in range(len(ROWS))]


def test_every_rank_has_all_rows_in_order_of_rank(found: list[dict[str, Any]]) -> None:
    everyone = torch.cat([rows_of(process) for process in range(2)])
    for process, seen in enumerate(found):
        assert seen["place"] == (process, 2)
        assert torch.equal(seen["gathered"], everyone)
        assert seen["whole numbers"].tolist() == [0, 0, 1, 1, 1]
        assert seen["truths"].tolist() == [[True]]
        assert seen["detached"] is False


def test_a_rows_gradient_is_the_sum_of_what_every_rank_asks_of_it(found: list[dict[str, Any]]) -> None:
    asked = weight_of(0) + weight_of(1)
    assert torch.equal(torch.cat([seen["gradient"] for seen in found]), asked)


def test_the_ranks_shares_average_to_the_mean_and_so_do_their_gradients(found: list[dict[str, Any]]) -> None:
    everyone = torch.cat([rows_of(process)[:, 0] for process in range(2)])
    torch.testing.assert_close(torch.stack([seen["mean"] for seen in found]).mean(), everyone.mean())
    torch.testing.assert_close(
        torch.cat([seen["mean's gradient"] for seen in found]) / 2, torch.full((5,), 1 / 5.0).double()
    )


def test_heads_are_gathered_row_by_row(found: list[dict[str, Any]]) -> None:
    parts = [torch.cat([rows_of(process), rows_of(process) + 0.5]) for process in range(2)]
    mirrored = [torch.cat([-rows_of(process), -rows_of(process) + 0.5]) for process in range(2)]
    expected = torch.stack([torch.cat(parts), torch.cat(mirrored)])
    for seen in found:
        assert torch.equal(seen["negatives"], expected)
        assert seen["negative_index"].tolist() == [0, 1, 0, 1, 10, 11, 12, 10, 11, 12]


def test_alone_everything_is_what_it_is() -> None:
    rows = torch.randn(4, 3, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert gather(rows) is rows
    assert torch.equal(gather_detached(rows), rows)
    assert not gather_detached(rows).requires_grad
    assert torch.equal(global_mean(rows), rows.mean())
