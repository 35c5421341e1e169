"""The approximate search of a bank against lists of keys written out, through refreshes, checkpoints and processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast.banks import HNSW, IVF, Approximate, FaissBank, Hardest
from contrast.cli import main
from contrast.errors import InputError
from contrast.search.approximate import InvertedLists, NeighbourGraph, train_centroids
from tests.commands.running import pretrain

WIDTH, SIZE = 8, 60


def unit(count: int, seed: int) -> Tensor:
    rows = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def bank(lists: int = 6, probes: int = 2, every: int = 3, above: int = 10, **arguments: object) -> FaissBank:
    return with_index(IVF(lists, probes, above, every), **arguments)


def graph(effort: int = 100, every: int = 3, above: int = 10, **arguments: object) -> FaissBank:
    return with_index(HNSW(8, effort, above, every), **arguments)


def with_index(how: Approximate, **arguments: object) -> FaissBank:
    return FaissBank(WIDTH, SIZE, mining=Hardest(5), seed=1, approximate=how, **arguments)  # type: ignore[arg-type]  # of any type


def written(made: FaissBank, steps: range, rows: slice = slice(None)) -> Iterator[int]:
    for step in steps:
        samples = (torch.arange(8) + 5 * step) % SIZE
        made.store(unit(8, step)[rows], samples[rows])
        yield step


def slow(made: FaissBank, query: Tensor, sample: int, count: int, probes: int) -> list[float]:
    """The best scores among keys whose nearest centroid is one of the query's nearest ones."""
    centroids = made.approximate.get_extra_state()["used"]
    near = (centroids @ query).topk(probes).indices.tolist()
    scores = []
    for row in range(int(made.rows.filled)):
        key = made.rows.keys[row].float()
        if int((centroids @ key).argmax()) in near and int(made.rows.index[row]) != sample:
            scores.append(float(key @ query))
    return sorted(scores, reverse=True)[:count]


@settings(deadline=None, max_examples=20)
@given(st.booleans(), st.sampled_from(["float32", "float16"]), st.integers(1, 6), st.integers(1, 70))
def test_it_finds_the_best_rows_of_the_lists_it_looks_through(
    per_sample: bool, storage: str, probes: int, count: int
) -> None:
    made = bank(probes=probes, per_sample=per_sample, storage=storage)
    for step in written(made, range(20)):
        if step < 5:  # trained at the step of index 2, used from that of index 5
            assert int(made.approximate.used) == -1
            continue
        assert int(made.approximate.used) == 3 * (step // 3) - 1 - 3 * (step % 3 != 2)
        query, asking = unit(3, 100 + step), [0, 5 * step % SIZE, -1]
        found = made.neighbours(query, torch.tensor(asking), count)
        for place, sample in enumerate(asking):
            rows = found.row[place][found.row[place] >= 0]
            expected = slow(made, query[place], sample, count, probes)
            assert len(rows) == len(expected) == len(set(rows.tolist()))
            torch.testing.assert_close(found.score[place, : len(rows)].tolist(), expected, rtol=0, atol=1e-6)
            torch.testing.assert_close(
                (made.rows.keys[rows].float() @ query[place]).tolist(), expected, rtol=0, atol=1e-6
            )


@settings(deadline=None, max_examples=10)
@given(st.booleans(), st.sampled_from(["float32", "float16"]), st.integers(1, 70))
def test_a_graph_walked_far_enough_finds_the_nearest_of_todays_keys(per_sample: bool, storage: str, count: int) -> None:
    made, exact = graph(per_sample=per_sample, storage=storage), FaissBank(WIDTH, SIZE, per_sample, storage=storage)
    for step in written(made, range(20)):
        list(written(exact, range(step, step + 1)))
        query, asking = unit(3, 100 + step), torch.tensor([0, 5 * step % SIZE, -1])
        found, expected = (each.neighbours(query, asking, count) for each in (made, exact))
        torch.testing.assert_close(found.score, expected.score, rtol=0, atol=1e-6)
        assert torch.equal(found.row.sort().values, expected.row.sort().values)
    assert int(made.approximate.used) == 14


def test_with_all_lists_it_is_exact_and_its_recall_is_one() -> None:
    few, all_lists, exact = bank(probes=1), bank(probes=6), FaissBank(WIDTH, SIZE)
    for _ in zip(*(written(made, range(12)) for made in (few, all_lists, exact)), strict=True):
        pass
    query, nowhere = unit(20, 99), torch.full((20,), -1)
    torch.testing.assert_close(all_lists.neighbours(query, nowhere, 9), exact.neighbours(query, nowhere, 9))
    assert all_lists.recall(query, nowhere, 9) == 1
    assert exact.recall(query, nowhere, 9) is None
    found, truth = (each.neighbours(query, nowhere, 9).row.tolist() for each in (few, exact))
    hits = sum(len(set(one) & set(other)) for one, other in zip(found, truth, strict=True))
    assert few.recall(query, nowhere, 9) == pytest.approx(hits / 180)
    assert 0.1 < hits / 180 < 0.9


def test_it_is_exact_until_there_are_more_rows_than_the_threshold() -> None:
    made = bank(above=40)
    for step in written(made, range(12)):
        assert int(made.approximate.begun) == (
            5 if 5 <= step < 8 else 8 if 8 <= step < 11 else 11 if step == 11 else -1
        )


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 9])
@pytest.mark.parametrize("make", [bank, partial(graph, effort=6)], ids=["lists", "graph"])
def test_it_goes_on_from_a_checkpoint_as_if_nothing_had_been(make: Callable[[], FaissBank], stop: int) -> None:
    whole, first = make(), make()
    for _ in zip(written(whole, range(stop)), written(first, range(stop)), strict=True):
        pass
    resumed = make()
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in written(whole, range(stop, 16)):
        list(written(resumed, range(step, step + 1)))
        query, index = unit(7, 200 + step), torch.arange(7)
        for one, other in zip(whole.neighbours(query, index, 9), resumed.neighbours(query, index, 9), strict=True):
            assert torch.equal(one, other)
    ours, theirs = (each.state_dict() for each in (whole, resumed))
    extra = "approximate._extra_state"
    assert ours[extra].keys() == theirs[extra].keys()
    for name, value in (ours | ours[extra]).items():
        assert name == extra or torch.equal(value, (theirs | theirs[extra])[name]), name


def test_a_state_that_was_loaded_and_not_used_is_the_state() -> None:
    made, other = bank(), bank()
    list(written(made, range(8)))
    other.load_state_dict(made.state_dict())
    extra = (each.state_dict()["approximate._extra_state"] for each in (made, other))
    assert all(torch.equal(one, two) for one, two in zip(*(each.values() for each in extra), strict=True))


def test_what_was_built_before_a_load_is_forgotten() -> None:
    made, other = bank(), bank()
    list(written(made, range(8)))
    list(written(other, range(20, 28)))
    made.load_state_dict(other.state_dict())
    query, nowhere = unit(7, 1), torch.full((7,), -1)
    assert torch.equal(made.neighbours(query, nowhere, 9).row, other.neighbours(query, nowhere, 9).row)


def found_by(rank: int, parts: int, sharded: bool) -> list[Tensor]:
    rows = slice(rank * 8 // parts, (rank + 1) * 8 // parts)
    made = bank(sharded=sharded)
    made.begin(None)
    found = []
    for step in written(made, range(14), rows):
        query, index = unit(8, 300 + step)[rows], torch.arange(8)[rows]
        found += made.neighbours(query, index, 9)
        recall = made.recall(query, index, 9)
        found.append(torch.tensor([-1.0 if recall is None else recall * (8 // parts)]))
    return found


def work(rank: int, parts: int, sharded: bool, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=parts)
    torch.save(found_by(rank, parts, sharded), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("sharded", [False, True])
def test_processes_find_what_one_does(sharded: bool, tmp_path: Path) -> None:
    multiprocessing.spawn(work, args=(2, sharded, str(tmp_path)), nprocs=2)
    several = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for place, alone in enumerate(found_by(0, 1, False)):
        parts = [each[place] for each in several]
        both = sum(parts) if len(alone) == 1 and float(alone) >= 0 else torch.cat(parts)[: len(alone)]
        torch.testing.assert_close(both, alone)


def test_rows_may_come_in_any_order() -> None:
    centroids, keys = unit(4, 0), unit(30, 1)
    whole, grown = InvertedLists(centroids, keys), InvertedLists(centroids, unit(12, 2))
    grown.replace(torch.arange(29, 4, -1), keys[5:].flip(0))
    grown.replace(torch.tensor([3, 0, 1, 4, 2]), keys[[3, 0, 1, 4, 2]])
    for one, other in zip(whole.search(unit(9, 3), 30, 2), grown.search(unit(9, 3), 30, 2), strict=True):
        assert torch.equal(one, other)


def test_a_state_without_an_index_leaves_none() -> None:
    made, early = bank(probes=1, every=5), bank(probes=1, every=5)
    list(written(made, range(14)))  # one in use, one on its way
    list(written(early, range(3)))
    made.load_state_dict(early.state_dict())
    assert made.state_dict()["approximate._extra_state"] == {}
    query, nowhere = unit(7, 1), torch.full((7,), -1)
    for _ in written(made, range(3, 9)):  # past the step at which one would have been taken up
        exact = made.rows.keys[: int(made.rows.filled)] @ query.T
        torch.testing.assert_close(made.neighbours(query, nowhere, 5).score, exact.T.topk(5).values)


class _Late:
    """A build that reads its keys only when it is waited for."""

    def __init__(self, work: Callable[..., object], *arguments: object) -> None:
        self._work, self._arguments = work, arguments

    def result(self) -> object:
        return self._work(*self._arguments)


@pytest.mark.parametrize("make", [bank, partial(graph, effort=6)], ids=["lists", "graph"])
def test_how_long_a_build_takes_does_not_matter(make: Callable[[], FaissBank], monkeypatch: pytest.MonkeyPatch) -> None:
    made, late = make(), make()
    for step in written(made, range(16)):
        with monkeypatch.context() as patched:
            patched.setattr("contrast.banks.approximate._in_thread", _Late)
            list(written(late, range(step, step + 1)))
        query, index = unit(7, 200 + step), torch.arange(7)
        for one, other in zip(made.neighbours(query, index, 9), late.neighbours(query, index, 9), strict=True):
            assert torch.equal(one, other)
    used = [each.state_dict()["approximate._extra_state"]["used"] for each in (made, late)]
    assert torch.equal(*used)


def test_a_graph_is_the_same_whatever_the_number_of_threads() -> None:
    before, keys, graphs = torch.get_num_threads(), unit(3000, 5), []
    try:
        for threads in (1, 4, 4):
            torch.set_num_threads(threads)
            graphs.append(NeighbourGraph.build(keys, links=8))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(graphs[0], graphs[1])
    assert torch.equal(graphs[0], graphs[2])


def test_each_index_is_of_another_sample_of_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []
    build = IVF.build
    monkeypatch.setattr(
        IVF, "build", lambda self, keys, sample, seed: samples.append(sample) or build(self, keys, sample, seed)
    )
    made = FaissBank(WIDTH, 500, mining=Hardest(5), approximate=IVF(4, 2, 10, 2))
    made.store(unit(500, 0), torch.arange(500))
    for _ in written(made, range(4)):
        continue
    one, other = ({tuple(row.tolist()) for row in sample} for sample in samples[:2])
    assert 0.3 < len(one & other) / len(one) < 0.7  # 256 draws of 500 rows: about 200 of them, two fifths again


def test_centroids_are_of_unit_length_and_a_function_of_the_seed() -> None:
    first, again, other = (train_centroids(unit(200, 0), 8, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(InputError, match="8 lists of 7 keys: ask for 7 lists or fewer"):
        train_centroids(unit(7, 0), 8, 0)


@pytest.mark.parametrize("wrong", [{"lists": 0}, {"probes": 7}, {"above": 5}, {"every": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="effort <= lists <= above"):
        bank(**wrong)
    with pytest.raises(InputError, match="links of at least 2"):
        HNSW(links=1)


def test_a_graph_over_parts_of_the_keys_is_refused() -> None:
    with pytest.raises(InputError, match=r"take --model\.bank\.approximate IVF, or sharded: false"):
        graph(sharded=True)


@pytest.mark.parametrize("index", [["IVF", "lists", 4, "effort", 2], ["HNSW", "links", 4]])
def test_a_run_with_an_index_resumes_from_the_command_line(index: list[object], tmp_path: Path) -> None:
    kind, *flags = [*index, "above", 20, "every_n_steps", 2]
    words = [f"--model.bank.approximate.{each}" if isinstance(each, str) else each for each in flags]
    start = ["--model", "MoCo", "--model.bank", "FaissBank", "--model.bank.size", 96, "--model.bank.approximate", kind]
    stop = ["--trainer.callbacks", "[{class_path: tests.commands.running.StopAt, init_args: {step: 5}}]"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert pretrain(whole, *start, *words) == 0
    assert pretrain(stopped, *start, *words, *stop) == 130
    assert main(["pretrain", "--resume", str(stopped), "--trainer.callbacks", "null"]) == 0
    last = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, stopped)]
    ours, theirs = (each["state_dict"] for each in last)
    assert int(ours["queues.0.approximate.used"]) == 3
    for name, value in ours.items():
        assert "_extra_state" in name or torch.equal(value, theirs[name]), name
