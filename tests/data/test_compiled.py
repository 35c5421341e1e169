"""Pieces shared out among threads: each is done once, errors come out, and a forked process has threads of its own."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch

from contrast.data import _loops as compiled
from contrast.data._loops import by_pieces


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("count", "rows"), [(0, 3), (1, 3), (3, 3), (10, 3), (64, 1)])
def test_every_row_is_in_one_piece(count: int, rows: int, threads: int) -> None:
    done: list[slice] = []
    by_pieces(count, rows, done.append)
    assert sorted(row for piece in done for row in range(piece.start, piece.stop)) == list(range(count))
    assert all(piece.stop - piece.start == rows for piece in done if piece.stop < count)


def test_as_many_threads_work_as_torch_takes(threads: int) -> None:
    together = threading.Barrier(threads, timeout=20)
    by_pieces(threads, 1, lambda piece: together.wait())


def test_an_error_in_a_piece_comes_out(threads: int) -> None:
    def work(piece: slice) -> None:
        if piece.start == 7:
            raise ValueError("piece 7")

    with pytest.raises(ValueError, match="piece 7"):
        by_pieces(10, 1, work)
    done: list[slice] = []
    by_pieces(10, 1, done.append)
    assert len(done) == 10


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_what_another_thread_does_is_waited_for_and_its_error_comes_out(threads: int) -> None:
    caller, both, done = threading.current_thread(), threading.Barrier(2, timeout=20), []

    def work(piece: slice) -> None:
        both.wait()  # one piece each
        if threading.current_thread() is not caller:
            time.sleep(0.2)
            done.append(piece)
            if fails:
                raise ValueError("in another thread")

    for fails in (False, True):
        done.clear()
        with pytest.raises(ValueError, match="in another thread") if fails else nullcontext():
            by_pieces(2, 1, work)
        assert len(done) == 1


def together_in_a_fork(into: multiprocessing.Queue[bool]) -> None:
    together = threading.Barrier(2, timeout=20)
    by_pieces(2, 1, lambda piece: together.wait())
    into.put(True)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        by_pieces(8, 1, lambda piece: None)
        context = multiprocessing.get_context("fork")
        into: multiprocessing.Queue[bool] = context.Queue()
        process = context.Process(target=together_in_a_fork, args=(into,))
        process.start()
        assert into.get(timeout=30)
        process.join(30)
        assert process.exitcode == 0
    finally:
        torch.set_num_threads(before)


def test_where_nothing_can_be_written_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read_only(*, cache: bool = False, **options: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "numba", SimpleNamespace(njit=read_only))
    doubled = compiled.compiled(lambda values: values * 2)
    assert doubled(np.arange(3)).tolist() == [0, 2, 4]
    assert asked == [True, False]
