"""What recording costs: whole runs at several intervals, in turn, against runs that record no scores.

    python -m benchmarks.recorder_cost --steps 200 --repetitions 6 > cost.json
    python -m benchmarks.recorder_cost --config configs/method/simclr.yaml configs/data/fashion_mnist.yaml \\
        configs/experiment/fashion_mnist_simclr.yaml --steps 40 --intervals 0 1 10 --repetitions 4

Prints JSON: the seconds of each run, and for each interval the median over repetitions, with the least and the
greatest, of ratios: `runs`, of its seconds to those of the run without scores of the same repetition, in which a noisy
machine's noise is; and `calls`, of the seconds in the calls of everyone who records (scores, pairs, banks, the doctor)
to all others of its run, in which it is not: on a CPU nothing of a call is left to do when it returns. `each` has the
same of each of the four; interval 0 is among both, for pairs are added up in every step.
`least` is the ratio of the least seconds of all repetitions.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from contrast.records import read_rows
from contrast.run_folder import RunFolder

RECORDERS = ("Recorder", "PairRecorder", "BankRecorder", "DoctorLog")
_TIMED = """
import json, sys, time
from contrast import callbacks
from contrast.cli import main

recorders = ("Recorder", "PairRecorder", "BankRecorder", "DoctorLog")
spent = dict.fromkeys(recorders, 0.0)

def timed(of, call):
    def timing(*arguments):
        start = time.perf_counter()
        call(*arguments)
        spent[of] += time.perf_counter() - start
    return timing

hooks = ("on_train_start", "on_train_batch_start", "on_before_backward", "on_train_batch_end", "on_train_epoch_end")
for of in recorders:
    recorder = getattr(callbacks, of)
    for hook in hooks:
        setattr(recorder, hook, timed(of, getattr(recorder, hook)))
code = main(["pretrain", *sys.argv[1:]])
print(json.dumps(spent))
sys.exit(code)
"""


Timed = tuple[float, dict[str, float]]


def seconds(folder: Path, configs: list[str], every: int, steps: int) -> Timed:
    """Wall-clock seconds of training, from the first step's start to the last's end, and those within each recorder."""
    files = [word for file in configs for word in ("--config", file)]
    flags = ["--run", str(folder), "--trainer.max_steps", str(steps), "--scores.every_n_steps", str(every)]
    command = [sys.executable, "-c", _TIMED, *files, *flags]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    whole = max(float(row["seconds"]) for row in read_rows(RunFolder(folder).metrics) if "seconds" in row)
    return whole, json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder_cost", allow_abbrev=False)
    parser.add_argument("--config", nargs="+", default=["configs/demo.yaml"], metavar="FILE")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--intervals", type=int, nargs="+", default=[0, 1, 6, 10, 50], help="0, none, among them")
    parser.add_argument("--repetitions", type=int, default=10)
    given = parser.parse_args(arguments)
    found: dict[int, list[Timed]] = {every: [] for every in given.intervals}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(given.repetitions):
            for every in given.intervals if turn % 2 else reversed(given.intervals):
                found[every].append(seconds(Path(scratch) / f"{turn}-{every}", given.config, every, given.steps))
                whole, within = found[every][-1]
                said = f"repetition {turn}, every {every}: {whole:.2f} s, {sum(within.values()):.3f} recording"
                print(said, file=sys.stderr)
    print(json.dumps({"torch": torch.__version__, "machine": machine(), **ratios(found)}, indent=2))


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def ratios(found: dict[int, list[Timed]]) -> dict[str, object]:
    """Median, least and greatest at every interval, and the ratio of the least seconds."""
    runs = {
        every: [with_it / without for (with_it, _), (without, _) in zip(each, found[0], strict=True)]
        for every, each in found.items()
        if every
    }
    calls = {every: [_share(timed, RECORDERS) for timed in each] for every, each in found.items()}
    each = {
        of: _described({every: [_share(timed, (of,)) for timed in times] for every, times in found.items()})
        for of in RECORDERS
    }
    described = {"runs": _described(runs), "calls": _described(calls), "each": each}
    least = {every: round(min(found[every])[0] / min(found[0])[0], 4) for every in runs}
    return {"seconds": found, **described, "least": least}


def _share(timed: Timed, of: Sequence[str]) -> float:
    """The seconds of some recorders over all that are no recorder's."""
    whole, within = timed
    return sum(within[name] for name in of) / (whole - sum(within.values()))


def _described(parts: dict[int, list[float]]) -> dict[int, list[float]]:
    return {every: [round(of(each), 4) for of in (statistics.median, min, max)] for every, each in parts.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
