"""The logarithm of each query's sum over its negatives, block by block, against loops over every pair."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast import Pairs, in_batch_pairs
from contrast.losses import exclusion as left_out_module
from contrast.losses import partition
from contrast.losses.exclusion import LeftOut, left_out
from contrast.losses.partition import log_partition

some = settings(deadline=None, max_examples=60)


def rows(seed: int, *shape: int, length: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return length * torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def meets(pairs: Pairs, i: int, j: int) -> bool:
    """Whether query i meets shared negative j: not of its sample, and not excluded."""
    samples = pairs.negative_index[j].reshape(-1).tolist()
    own = pairs.index[i].item() in [sample for sample in samples if sample >= 0]
    return not own and (pairs.excluded is None or j not in pairs.excluded[i].tolist())


def by_loops(query: Tensor, negatives: Tensor, inverse: Tensor, pairs: Pairs) -> Tensor:
    found = []
    for i, q in enumerate(query):
        logits = [(q * n).sum() * inverse for j, n in enumerate(negatives) if meets(pairs, i, j)]
        nothing = 0 * (q.sum() + inverse + negatives.sum()) - math.inf
        found.append(torch.logsumexp(torch.stack(logits), 0) if logits else nothing)
    return torch.stack(found)


@pytest.fixture(params=[(3, 2, 4), (512, 1024, 512)], ids=["small blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    shape(monkeypatch, *request.param)


def shape(monkeypatch: pytest.MonkeyPatch, down: int, across: int, square: int, kept: int = 0) -> None:
    for name, value in {"_ROWS": down, "_COLUMNS": across, "_SQUARE": square, "_KEPT": kept}.items():
        monkeypatch.setattr(partition, name, value)


def agree(
    query: Tensor, negatives: Tensor, pairs: Pairs, inverse: float, queue: bool = False, within: bool = False
) -> None:
    """Values, and gradients of all that may have one, for other weights of each query."""
    weights = torch.linspace(-1, 2, len(query), dtype=query.dtype)
    found = []
    for way in (log_partition, None):
        q, n = query.clone().requires_grad_(), negatives.clone().requires_grad_(not queue)
        n = q if within else n
        of = torch.tensor(inverse, dtype=query.dtype, requires_grad=True)
        value = by_loops(q, n, of, pairs) if way is None else way(q, n, of, LeftOut(pairs))
        sums = torch.where(value == -math.inf, torch.zeros_like(value), value)
        (sums * weights).sum().backward()
        found.append([value.detach(), q.grad, of.grad] + ([] if queue or within else [n.grad]))
    for ours, loops in zip(*found, strict=True):
        torch.testing.assert_close(ours, loops, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("inverse", [5.0, 1000.0], ids=["exponentials are safe", "maxima first"])
@pytest.mark.parametrize("queue", [False, True])
@some
@given(seed=st.integers(0, 10_000), queries=st.integers(1, 9), count=st.integers(0, 11), mixed=st.booleans())
def test_other_rows(seed: int, queries: int, count: int, mixed: bool, queue: bool, inverse: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(-1, 5, (queries,), generator=generator)
    of = torch.randint(-1, 5, (count, 2) if mixed else (count,), generator=generator)
    excluded = torch.randint(-1, max(1, count), (queries, 3), generator=generator) if seed % 2 else None
    query, negatives = rows(seed, queries, 4), rows(seed + 1, count, 4)
    pairs = Pairs(query, query, negatives, index, of, excluded=excluded if count else None)
    for down, across in ((3, 2), (512, 1024)):
        with pytest.MonkeyPatch.context() as patch:
            shape(patch, down, across, 4)
            agree(query, negatives, pairs, inverse, queue)


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["made again", "kept"])
@some
@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), samples=st.integers(1, 12))
def test_rows_among_themselves(seed: int, count: int, samples: int, kept: int) -> None:
    """With samples that are in the batch several times, or all of one sample."""
    query = rows(seed, 2 * count, 4)
    index = torch.randint(0, samples, (count,), generator=torch.Generator().manual_seed(seed)).repeat(2)
    pairs = Pairs(query, query, query, index, index)
    for side in (1, 4, 512):
        with pytest.MonkeyPatch.context() as patch:
            shape(patch, 3, 2, side, kept)
            agree(query, query, pairs, 5.0, within=True)


@pytest.mark.usefixtures("blocks")
def test_rows_among_themselves_that_are_excluded_on_one_side_alone() -> None:
    query, index = rows(0, 8, 4), torch.arange(4).repeat(2)
    excluded = torch.tensor([[1], [-1], [5], [-1], [-1], [0], [-1], [3]])
    agree(query, query, Pairs(query, query, query, index, index, excluded=excluded), 5.0, within=True)


@pytest.mark.usefixtures("blocks")
def test_a_batch_meets_itself_in_half_of_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors that a method makes are seen to be one, with heads and without."""
    monkeypatch.setattr(partition._Between, "apply", None)
    for heads in ((), (2,)):
        z1, z2 = (rows(seed, *heads, 5, 4).requires_grad_() for seed in (0, 1))
        pairs = in_batch_pairs(z1, z2, torch.arange(5))
        found = log_partition(pairs.query, pairs.negatives, torch.tensor(5.0).double(), LeftOut(pairs))
        assert found.shape == (*heads, 10)


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["compared", "listed"])
@some
@given(seed=st.integers(0, 10_000), queries=st.integers(1, 9), count=st.integers(1, 11), mixed=st.booleans())
def test_entries_that_are_left_out(seed: int, queries: int, count: int, mixed: bool, limit: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(-1, 4, (queries,), generator=generator)
    of = torch.randint(-1, 4, (count, 2) if mixed else (count,), generator=generator)
    excluded = torch.randint(-1, count, (queries, 2), generator=generator)
    query, negatives = rows(seed, queries, 2), rows(seed, count, 2)
    pairs = Pairs(query, query, negatives, index, of, excluded=excluded)
    expected = torch.tensor([[not meets(pairs, i, j) for j in range(count)] for i in range(queries)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(left_out_module, "_MOST", limit)
        out = LeftOut(pairs)
    assert torch.equal(left_out(pairs, 0, count), expected)
    assert torch.equal(out.offered(), (~expected).sum(dim=1))
    hidden, block = out.blocks(2, 3), torch.zeros(queries, count)
    for top in range(0, queries, 2):
        for left in range(0, count, 3):
            hidden.hide(block[top : top + 2, left : left + 3], top, left, 1.0)
    assert torch.equal(block.bool(), expected)


@pytest.mark.parametrize("temperature", [0.001, 0.0166, 0.0168, 0.07, 1.0, 50.0])
@pytest.mark.parametrize("within", [False, True])
def test_single_precision_is_as_good_as_its_logits(temperature: float, within: bool) -> None:
    query, index = rows(0, 64, 16), torch.arange(32).repeat(2)
    negatives = query if within else rows(1, 96, 16)
    of = index if within else torch.arange(96)
    pairs = Pairs(query, query, negatives, index, of)
    single, inverse = query.float(), 1 / temperature
    found = log_partition(
        single, single if within else negatives.float(), torch.tensor(inverse, dtype=torch.float32), LeftOut(pairs)
    )
    expected = log_partition(query, negatives, torch.tensor(inverse).double(), LeftOut(pairs))
    assert ((found - expected).abs() <= 4e-7 * max(inverse, 8)).all()  # a logit of 1/τ is rounded by 6e-8 of itself


def test_rows_that_are_no_numbers_are_not_hidden() -> None:
    query = rows(0, 6, 4).float()
    query[2, 1] = math.nan
    index = torch.arange(6)
    pairs = Pairs(query, query, query, index, index)
    for negatives in (query, query.clone()):
        q = query.clone().requires_grad_()
        value = log_partition(q, q if negatives is query else negatives, torch.tensor(5.0), LeftOut(pairs))
        value.sum().backward()
        assert value.isnan().all()
        assert q.grad.isnan().any()


def test_without_gradient_nothing_is_kept_and_nothing_is_added_up() -> None:
    query, negatives = rows(0, 4, 4).requires_grad_(), rows(1, 6, 4)
    pairs = Pairs(query, query, negatives, torch.arange(4), torch.arange(6))
    with torch.no_grad():
        value = log_partition(query, negatives, torch.tensor(5.0).double(), LeftOut(pairs))
    assert value.grad_fn is None
    torch.testing.assert_close(value, by_loops(query.detach(), negatives, torch.tensor(5.0).double(), pairs))


_PEAK = r"""
import re, sys, torch
from contrast import in_batch_pairs
from contrast.losses import DCL, ContrastiveLoss, InfoNCE

torch.set_num_threads(1)
count = int(sys.argv[1])
z = torch.nn.functional.normalize(torch.randn(2, count, 128), dim=-1).requires_grad_()
loss = ContrastiveLoss(InfoNCE(), 0.1)
loss(in_batch_pairs(z[0][:64], z[1][:64], torch.arange(64))).loss.backward()  # what the first call loads
def peak():  # not ru_maxrss, which a new process takes over from the one that starts it
    return int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])


before = peak()
loss(in_batch_pairs(z[0], z[1], torch.arange(count))).loss.backward()
print((peak() - before) / 1024)
"""


def test_a_batch_of_8192_takes_150_mib_at_most_beyond_its_rows() -> None:
    """Its matrix alone has 1,024 MiB; 2N is 16,384."""
    done = subprocess.run([sys.executable, "-c", _PEAK, "8192"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150


def test_pairs_are_one_record() -> None:
    """A transform that changes other fields leaves the two tensors one."""
    z = rows(0, 4, 4)
    pairs = in_batch_pairs(z, z, torch.arange(4))
    assert dataclasses.replace(pairs, view=None).negatives is pairs.query
