"""Exact search against a sort of the whole score matrix."""

from __future__ import annotations

import os
import subprocess
import sys

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.errors import InputError
from contrast.search.exact import nearest


def _rows(count: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _assert_nearest(query: torch.Tensor, keys: torch.Tensor, count: int, tolerance: float) -> None:
    scores, columns = nearest(query, keys, count)
    every = query.double() @ keys.double().T
    torch.testing.assert_close(
        scores.double(), every.sort(dim=1, descending=True).values[:, :count], rtol=0, atol=tolerance
    )
    # Whichever of equal keys was taken, it has the score that is said, and none is taken twice.
    torch.testing.assert_close(scores.double(), every.gather(1, columns), rtol=0, atol=tolerance)
    assert all(len(set(row)) == count for row in columns.tolist())


@settings(deadline=None, max_examples=25)
@given(
    b=st.integers(1, 9),
    k=st.integers(1, 40),
    d=st.integers(1, 7),
    share=st.floats(0, 1),
    double=st.booleans(),
    seed=st.integers(0, 99),
)
def test_scores_and_columns_are_those_of_a_full_sort(b, k, d, share, double, seed):
    dtype, tolerance = (torch.float64, 1e-12) if double else (torch.float32, 1e-5)
    count = 1 + int(share * (k - 1))
    _assert_nearest(_rows(b, d, seed, dtype), _rows(k, d, seed + 1, dtype), count, tolerance)


def test_many_keys_and_neighbours():
    _assert_nearest(_rows(70, 32, 0), _rows(5000, 32, 1), 300, 1e-4)


def test_queries_and_keys_of_several_blocks_of_unequal_size():
    query, keys = _rows(2300, 4, 0), _rows(4500, 4, 1)
    scores, columns = nearest(query, keys, 6, "torch", 17.5)  # blocks of 1,024 queries and 4,367 keys at most
    every = query @ keys.T
    torch.testing.assert_close(scores, every.topk(6).values, rtol=0, atol=1e-5)
    torch.testing.assert_close(every.gather(1, columns), scores, rtol=0, atol=1e-5)


def test_equal_keys_are_each_found_once():
    keys = torch.ones(30, 4)
    _assert_nearest(torch.ones(3, 4), keys, 30, 1e-6)


@settings(deadline=None, max_examples=30)
@given(
    engine=st.sampled_from(["faiss", "torch"]),
    half=st.sampled_from([None, torch.float16, torch.bfloat16]),
    count=st.sampled_from([1, 7, 300]),
    mib=st.sampled_from([0.25, 0.6, 512.0]),
    seed=st.integers(0, 9),
)
def test_engines_and_budgets_find_the_same(engine, half, count, mib, seed):
    query, keys = _rows(5, 8, seed), _rows(9000, 8, seed + 1).to(half or torch.float32)  # several blocks of keys
    every = query @ keys.float().T
    scores, columns = nearest(query, keys, count, engine, mib)
    torch.testing.assert_close(scores, every.topk(count).values, rtol=0, atol=1e-5)
    torch.testing.assert_close(every.gather(1, columns), scores, rtol=0, atol=1e-5)
    assert all(len(set(row)) == count for row in columns.tolist())


@pytest.mark.parametrize("engine", ["faiss", "torch"])
def test_ties_across_blocks_are_each_found_once(engine):
    keys = torch.ones(9000, 4, dtype=torch.float16)
    scores, columns = nearest(torch.ones(3, 4), keys, 5000, engine, 1.0)
    assert (scores == 4).all()
    assert all(len(set(row)) == 5000 for row in columns.tolist())


@pytest.mark.parametrize("engine", ["faiss", "torch"])
def test_what_passes_the_budget_is_refused_with_the_numbers(engine):
    message = "100 queries x 4,000 neighbours of 5,000 keys: the results take 4.6 MiB.* budget is 4 MiB"
    with pytest.raises(InputError, match=message):
        nearest(_rows(100, 4, 0), _rows(5000, 4, 1), 4000, engine, 4)


@pytest.mark.parametrize(
    ("keys", "count", "dtype", "engine"),
    [
        (65_536, 1024, torch.float32, "faiss"),
        (65_536, 1024, torch.float16, "faiss"),
        (65_536, 1023, torch.float32, "torch"),
        (65_535, 1024, torch.float32, "torch"),
        (65_536, 1024, torch.float64, "torch"),
    ],
)
def test_left_to_itself_it_takes_the_engine_that_was_measured_faster(keys, count, dtype, engine, monkeypatch):
    taken = []
    for name in ("faiss", "torch"):
        monkeypatch.setattr(f"contrast.search.exact._search_{name}", lambda *arguments, name=name: taken.append(name))
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    query = torch.zeros(2, 1, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    nearest(query, torch.zeros(keys, 1, dtype=dtype), count)
    assert taken == [engine]


PEAK = r"""
import re, sys, torch
from contrast.search.exact import nearest
keys = torch.full((2_000_000, 64), 0.01, dtype=torch.float16)
nearest(torch.ones(64, 64), keys[:200_000], 16, sys.argv[1], 64.0)  # libraries are loaded, threads have their buffers
def peak():  # not ru_maxrss, which a new process takes over from the one that starts it
    return int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])


before = peak()
nearest(torch.ones(64, 64), keys, 16, sys.argv[1], 64.0)
print((peak() - before) / 1024)
"""


@pytest.mark.parametrize("engine", ["faiss", "torch"])
def test_half_precision_is_never_widened_whole(engine):
    # glibc keeps freed blocks of up to 32 MiB for itself, more or fewer of them from run to run: this returns each.
    returned = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    call = [sys.executable, "-c", PEAK, engine]
    done = subprocess.run(call, capture_output=True, text=True, check=True, env=returned)
    assert float(done.stdout) < 64  # the keys are 244 MiB, and twice that in float32


def test_faiss_refuses_float64():
    with pytest.raises(InputError, match="not float64: take engine torch"):
        nearest(_rows(2, 3, 0, torch.float64), _rows(5, 3, 1, torch.float64), 1, "faiss")


def test_float64_stays_float64_and_half_precision_becomes_float32():
    assert nearest(_rows(2, 3, 0, torch.float64), _rows(5, 3, 1, torch.float64), 2)[0].dtype == torch.float64
    query, keys = _rows(2, 3, 0, torch.bfloat16), _rows(5, 3, 1, torch.bfloat16)
    scores, _ = nearest(query, keys, 2)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, (query.float() @ keys.float().T).topk(2).values)


def test_it_takes_views_and_rows_with_a_gradient_and_gives_none():
    query = _rows(6, 4, 0).requires_grad_()
    keys = _rows(4, 9, 1).T  # not contiguous
    scores, columns = nearest(query, keys, 3)
    assert not scores.requires_grad
    assert columns.dtype == torch.int64
    torch.testing.assert_close(scores, (query.detach() @ keys.T).topk(3).values)


@pytest.mark.parametrize("count", [0, -1, 6])
def test_a_count_outside_the_keys_is_refused(count):
    with pytest.raises(InputError, match=f"{count} neighbours of 5 keys: ask for 1 to 5"):
        nearest(_rows(2, 3, 0), _rows(5, 3, 1), count)


@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (2, 0)])
def test_nothing_to_search_is_refused(queries, keys):
    with pytest.raises(InputError, match="nothing to search"):
        nearest(torch.zeros(queries, 3), torch.zeros(keys, 3), 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["queries", "keys"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_that_are_not_finite_are_refused(bad, which, dtype):
    query, keys = _rows(2, 3, 0, dtype), _rows(5, 3, 1, dtype)
    {"queries": query, "keys": keys}[which][1, 2] = bad
    with pytest.raises(InputError, match=f"the {which} hold NaN or infinity"):
        nearest(query, keys, 1)


def test_a_sum_beyond_float32_is_not_taken_for_infinity():
    keys = torch.full((3, 2), 3e38)
    assert nearest(torch.full((1, 2), 1e-30), keys, 1)[1].shape == (1, 1)


def test_widths_that_differ_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is outside tests
    with pytest.raises(InputError, match="width 3 and keys of width 4"):
        nearest(_rows(2, 3, 0), _rows(5, 4, 1), 1)


def test_importing_it_does_not_import_faiss():
    code = "import sys, contrast.search.exact; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_faiss_and_torch_take_turns_with_their_threads():
    query, keys = _rows(64, 64, 0), _rows(4096, 64, 1)
    expected = (query @ keys.T).topk(5).values
    for _ in range(10):
        torch.testing.assert_close(nearest(query, keys, 5, "faiss")[0], expected)
        torch.testing.assert_close((query @ keys.T).topk(5).values, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["faiss", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("mib", [2.0, 512.0])
def test_cuda_agrees_with_the_cpu(engine, dtype, mib):
    query, keys = _rows(70, 32, 0), _rows(50_000, 32, 1, dtype)
    scores, columns = nearest(query.cuda(), keys.cuda(), 20, engine, mib)
    assert columns.is_cuda
    torch.testing.assert_close(scores.cpu(), nearest(query, keys, 20)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((query.cuda() @ keys.cuda().float().T).gather(1, columns), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_a_search_on_cuda_takes_no_more_than_its_budget():
    query, keys = _rows(1024, 64, 0).cuda(), _rows(400_000, 64, 1, torch.float16).cuda()
    nearest(query[:1], keys[:10], 1)  # libraries, loaded
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    nearest(query, keys, 256, "torch", 64.0)
    assert torch.cuda.max_memory_allocated() - before <= 64 << 20


@pytest.mark.gpu
def test_faiss_on_cuda_refuses_more_neighbours_than_it_finds():
    with pytest.raises(InputError, match="up to 2048 neighbours on CUDA, not 2049"):
        nearest(_rows(2, 4, 0).cuda(), _rows(3000, 4, 1).cuda(), 2049, "faiss")
