"""Time the ways to find nearest keys against each other, in one run, and make a table of it.

python -m benchmarks.search --docs docs/banks.md
python -m benchmarks.search --queries 256 --keys 4096 65536 --exact --docs docs/banks.md
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from contrast.compare.machine import commit, machine
from contrast.compare.markdown import check_page, put_into_page
from contrast.evaluation import write_json
from contrast.search.approximate import InvertedLists, NeighbourGraph, train_centroids
from contrast.search.exact import nearest

WIDTH = 128
PROBES = (8, 32, 128)
EFFORTS = (64, 512)  # of HNSW: nodes that a search keeps in view, at least as many as neighbours
EXACT = ("faiss", "torch", "torch, 64 MiB")
_MIB = 1 << 20
_MARKERS = ("search_benchmark", "benchmarks.search")  # of the page that gets the table
Search = Callable[[Tensor, int], Tensor]
"""From queries and a count to rows."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = _arguments(words)
    if arguments.memory:
        print(_peak(arguments.memory, arguments.queries, arguments.keys[0], arguments.counts[0]))
        return 0
    if arguments.docs is not None:
        check_page(arguments.docs, f"{arguments.queries} queries", *_MARKERS)
    torch.set_num_threads(arguments.threads)
    rows = [row for keys in arguments.keys for row in _of_size(arguments, keys)]
    found = {"commit": commit(), "machine": machine(), "queries": arguments.queries, "width": WIDTH, "rows": rows}
    write_json(arguments.out, found)
    text = rendered(found, _command(sys.argv[1:] if words is None else words))
    if arguments.docs is not None:
        put_into_page(arguments.docs, f"{arguments.queries} queries", text, *_MARKERS)
    print(text)
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1024, help="at once")
    parser.add_argument("--exact", action="store_true", help="without approximate ways")
    parser.add_argument("--keys", type=int, nargs="+", default=[4096, 65536, 1_000_000], help="sizes of the bank")
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 256, 1024], help="neighbours")
    parser.add_argument("--rounds", type=int, default=3, help="of each search, in turns; medians are given")
    parser.add_argument("--threads", type=int, default=2, help="to compute with")
    parser.add_argument("--out", type=Path, default=Path("runs/search.json"), help="of the numbers")
    parser.add_argument("--docs", type=Path, help="put the table between the page's two markers")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # one engine's peak, in a process of its own
    return parser.parse_args(words)


def _command(words: Sequence[str]) -> str:
    """The command without where its output goes."""
    said = list(words)
    for name in ("--docs", "--out"):
        if name in said:
            place = said.index(name)
            del said[place : place + 2]
    return " ".join(["python -m benchmarks.search", *said])


def embeddings(count: int, seed: int) -> Tensor:
    """Unit rows that lie as an encoder's do: a thousand clusters on a sheet of 16 dimensions, with noise off it."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(1000, 16, generator=generator)
    sheet = torch.randn(16, WIDTH, generator=generator)
    generator.manual_seed(seed)
    inner = centres[torch.randint(1000, (count,), generator=generator)]
    inner = inner + 0.5 * torch.randn(count, 16, generator=generator)
    rows = inner @ sheet + 0.5 * torch.randn(count, WIDTH, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1)


def exact(name: str, keys: Tensor) -> Search:
    engine, _, budget = name.partition(", ")
    mib = float(budget.split()[0]) if budget else 512.0
    return lambda query, count: nearest(query, keys, count, engine, mib)[1]  # type: ignore[arg-type]


def _of_size(arguments: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    keys, query = embeddings(size, 1), embeddings(arguments.queries, 2)
    searches = {name: exact(name, keys) for name in EXACT}
    built = dict.fromkeys(EXACT, (0.0, 0.0))
    for made, cost in (_lists(keys), _graph(keys)) if size >= 65536 and not arguments.exact else ():
        searches |= made
        built |= dict.fromkeys(made, cost)
    rows = []
    for count in arguments.counts:
        truth = searches["faiss"](query, count)
        seconds: dict[str, list[float]] = {name: [] for name in searches}
        recalls = {name: _recall(search(query, count), truth) for name, search in searches.items()}  # and warm
        for _ in range(arguments.rounds):
            for name, search in searches.items():
                start = time.perf_counter()
                search(query, count)
                seconds[name].append(time.perf_counter() - start)
        for name, taken in seconds.items():
            peak = _measured_peak(name, arguments.queries, size, count) if name in EXACT else built[name][1]
            rows.append(
                {"keys": size, "count": count, "way": name, "seconds": median(taken), "recall": recalls[name],
                 "mib": peak, "build_seconds": built[name][0]}
            )  # fmt: skip
            print(rows[-1], file=sys.stderr)
    return rows


def _recall(found: Tensor, truth: Tensor) -> float:
    missing = -1 - torch.arange(found.shape[1])  # each its own: rows that were not found equal nothing
    both = torch.cat([torch.where(found < 0, missing, found), truth], dim=1).sort(dim=1).values
    return float((both[:, 1:] == both[:, :-1]).sum() / truth.numel())


def _lists(keys: Tensor) -> tuple[dict[str, Search], tuple[float, float]]:
    """IVF with so many lists as the bank would take."""
    count = 1024 if len(keys) > 200_000 else 256

    def build() -> InvertedLists:
        sample = keys[torch.randint(len(keys), (64 * count,), generator=torch.Generator().manual_seed(0))]
        return InvertedLists(train_centroids(sample, count, 0), keys)

    lists, cost = _built(build)
    name = f"IVF, {count} lists, {{}} probed"
    return {name.format(p): lambda query, n, p=p: lists.search(query, n, p)[1] for p in PROBES}, cost


def _graph(keys: Tensor) -> tuple[dict[str, Search], tuple[float, float]]:
    """HNSW, 16 links a node."""
    graph, cost = _built(lambda: NeighbourGraph(NeighbourGraph.build(keys, links=16)))
    return {f"HNSW, effort {e}": lambda query, n, e=e: graph.search(query, n, e)[1] for e in EFFORTS}, cost


def _built(build: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What was built, the seconds that took, and the memory that it takes."""
    _tidy()
    before, start = _resident(), time.perf_counter()
    made = build()
    taken = time.perf_counter() - start
    _tidy()
    return made, (taken, _resident() - before)


def _tidy() -> None:
    """Give freed memory back, so that what is resident is in use."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / _MIB


def _measured_peak(name: str, queries: int, size: int, count: int) -> float:
    """A fresh process's: what one search takes beside queries and keys."""
    sizes = ["--queries", str(queries), "--keys", str(size), "--counts", str(count)]
    command = [sys.executable, "-m", "benchmarks.search", "--memory", name, *sizes]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _peak(name: str, queries: int, size: int, count: int) -> float:
    search, query = exact(name, embeddings(size, 1)), embeddings(queries, 2)
    exact(name, query)(query, 1)  # libraries are loaded, threads have their buffers
    _tidy()
    # What making the keys took must not hide what the search takes.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident()
    search(query, count)
    return _highest() - before


def _highest() -> float:
    """The most that was resident since the mark was cleared, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def rendered(found: dict[str, Any], command: str) -> str:
    """The table, and below it what it was made with."""
    heads = ["keys", "neighbours", "way", "time", "over faiss", "recall", "memory", "built in"]
    lines = [heads, ["---"] * len(heads)]
    base = {(row["keys"], row["count"]): row["seconds"] for row in found["rows"] if row["way"] == "faiss"}
    for row in found["rows"]:
        ratio = row["seconds"] / base[row["keys"], row["count"]]
        built = f"{row['build_seconds']:.0f} s" if row["build_seconds"] else "–"
        lines.append(
            [f"{row['keys']:,}", f"{row['count']:,}", row["way"], f"{1000 * row['seconds']:.0f} ms", f"{ratio:.2f}",
             f"{row['recall']:.3f}", f"{row['mib']:.0f} MiB", built]
        )  # fmt: skip
    about = found["machine"]
    notes = [
        f"{found['queries']:,} queries, width {found['width']}, float32. *time*: median of searches taken in turns. "
        "*memory*: of exact ways, the most that a search takes beside queries and keys; of the others, the index.",
        "",
        f"- `{command}`, commit {found['commit']}, seeds 0, 1, 2 of the made rows",
        f"- {about['processor']}, {about['threads']} threads, " + ", ".join(
            f"{name} {about[name]}" for name in ("torch", "faiss") if name in about
        ),
    ]  # fmt: skip
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *notes]) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
