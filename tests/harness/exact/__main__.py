"""Kill runs and resume them, and compare with runs that nobody killed.

    python -m tests.harness.exact --kills 100 --jobs 2 > exact.json

Every run is started and resumed by the same command, with ``--resume auto``. Kills go round the runs in turn; every
other one is inside a write: the process dies when half of it is done, or at the opening, renaming or linking of a file.
The others come at a random moment between the first checkpoint and the end. Loader workers are 0 or 2, of the runs
that nobody kills 0, so that the number of workers is seen to change nothing.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from contrast.records import read_rows
from tests.harness.exact.differences import differences
from tests.harness.exact.processes import Chain, all_of, import_everything, start
from tests.harness.exact.runs import RUNS, command
from tests.harness.exact.writes import KINDS

_TRIES = 5
_WEIGHTS = {"checkpoint": 3, "record": 4, "checkpoint put in place": 3}


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        run: which of `RUNS`.
        workers: loader processes.
        inside: "write" or "any moment".
        kind: of the write.
        at: its number among the events of its kind; of any moment, None. A kill that was meant for any moment has both
            where the run had ended before each moment that was tried.
        wrong: what differs, or did not happen as it should.
    """

    run: str
    workers: int
    inside: str
    kind: str | None
    at: int | None
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed: how many events of each kind it has, and its seconds after the first checkpoint."""

    counts: dict[str, int]
    seconds: float


def whole(name: str, epochs: int, scratch: Path) -> Chain[tuple[str, Whole]]:
    """Train it to its end."""
    folder = _folder(scratch, name)
    log = folder.with_suffix(".log")
    code = yield start(command(name, str(folder), 0, epochs), folder, log)
    if code:
        raise SystemExit(f"{name}: exit code {code}\n{log.read_text()[-3000:]}")
    seconds = max(float(row.get("seconds", 0)) for row in read_rows(folder / "metrics.jsonl"))
    return name, Whole(json.loads(Path(f"{log}.writes").read_text()), seconds)


def kill_and_resume(kill: Kill, of: Whole, epochs: int, seed: int, scratch: Path) -> Chain[Kill]:
    """Kill the run, go on with it and compare.

    A kill at a random moment comes after the end where the run was faster than the one that nobody killed. It is tried
    again sooner, and at last inside a write, whose number does not depend on the clock.
    """
    folder, draw = scratch / f"kill-{seed}", random.Random(seed)
    log = folder.with_suffix(".log")
    words = command(kill.run, str(folder), kill.workers, epochs)
    for attempt in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if kill.kind is None and attempt == _TRIES - 1:
            kill = replace(kill, kind="record", at=draw.randint(1, of.counts["record"]))
        if kill.kind is not None and kill.at is not None:
            code = yield start(words, folder, log, kill_at=(kill.kind, kill.at))
        else:
            code = yield start(words, folder, log, kill_after=draw.random() * of.seconds * 0.3**attempt)
        if code == -signal.SIGKILL:
            break
        if code:  # it failed by itself: another try could hide that
            return replace(kill, wrong=(f"before its kill: exit code {code}: {log.read_text()[-600:]}",))
        if kill.at is not None:  # fewer events than in the run that nobody killed
            kill = replace(kill, at=max(1, kill.at // 2))
    else:
        return replace(kill, wrong=(f"it was not killed in {_TRIES} tries: it ended each time",))
    code = yield start(words, folder, log)
    said = log.read_text()[-600:]
    wrong = [f"resumed: exit code {code}: {said}"] if code else differences(_folder(scratch, kill.run), folder)
    if not wrong:
        shutil.rmtree(folder)
    return replace(kill, wrong=tuple(wrong))


def plan(names: Sequence[str], wholes: dict[str, Whole], kills: int, seed: int) -> list[Kill]:
    """So many kills, round the runs in turn."""
    draw = random.Random(seed)
    planned = []
    for number in range(kills):
        turn, place = divmod(number, len(names))
        name = names[place]
        # So that four turns have every run killed in both ways and with both numbers of workers.
        workers = 2 * ((place // 2 + turn // 2) % 2)
        if (place + turn) % 2:
            planned.append(Kill(name, workers, "any moment", None, None))
            continue
        counts = wholes[name].counts
        # Those of the first checkpoint are among them: a run that has none yet starts again.
        there = [each for each in KINDS if counts.get(each)]
        kind = draw.choices(there, [_WEIGHTS.get(each, 1) for each in there])[0]
        planned.append(Kill(name, workers, "write", kind, draw.randint(1, counts[kind])))
    return planned


def _folder(scratch: Path, name: str) -> Path:
    return scratch / "".join(letter if letter.isalnum() else "_" for letter in name)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.exact", allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=6, help="of every run, three steps each")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS), metavar="RUN")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    import_everything()
    names = given.runs[: given.kills]
    scratch, started = Path(tempfile.mkdtemp(prefix="exact-")), time.monotonic()
    wholes = dict(all_of((whole(name, given.epochs, scratch) for name in names), given.jobs))
    print(f"{len(names)} runs to their ends in {time.monotonic() - started:.0f} s", file=sys.stderr)
    chains = (
        kill_and_resume(kill, wholes[kill.run], given.epochs, given.seed * 10_000 + number, scratch)
        for number, kill in enumerate(plan(names, wholes, given.kills, given.seed))
    )
    done = []
    for kill in all_of(chains, given.jobs):
        done.append(kill)
        at = f"{kill.kind} {kill.at}" if kill.kind else kill.inside
        said = f"{kill.run}, {kill.workers} workers, {at}: {kill.wrong or 'the same'}"
        print(f"{len(done)}/{given.kills} {said}", file=sys.stderr, flush=True)
    print(json.dumps(_summary(done, names, time.monotonic() - started), indent=2))
    failed = [kill for kill in done if kill.wrong]
    if not failed:
        shutil.rmtree(scratch)
    return int(bool(failed))


def _summary(done: Sequence[Kill], names: Sequence[str], seconds: float) -> dict[str, Any]:
    inside = collections.Counter(kill.kind or kill.inside for kill in done)
    return {
        "kills": len(done),
        "inside a write": sum(1 for kill in done if kill.kind),
        "by what was being written": dict(inside),
        "by workers": dict(collections.Counter(str(kill.workers) for kill in done)),
        "runs": len(names),
        "bit-identical": sum(1 for kill in done if not kill.wrong),
        "wrong": [asdict(kill) for kill in done if kill.wrong],
        "seconds": round(seconds),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
